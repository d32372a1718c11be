/* Camp: page visits. First party only: an id in this site's own storage; nothing from elsewhere is read or set. Served without indentation.
   <script src="https://news.example/camp.js" defer data-domain="shop.example"></script> */
(function (w, d, n, l) {
  function no() {}
  var camp = w.camp = { page: no, reset: no, visitor: "" }, key = "camp_visitor";
  var s = d.currentScript || d.querySelector("script[src*='/camp.js']");
  if (!s || !w.crypto || (__RESPECT__ && (n.doNotTrack == "1" || n.globalPrivacyControl))) return;
  var base = s.src.replace(/\/camp\.js.*$/, ""), good = /^visitor:[0-9a-f]{32}$/;
  var id, view, url, since, seen, times, link;
  function on(what, name, then) { what.addEventListener(name, then, true); }
  function hex(size) {
    for (var out = "", all = crypto.getRandomValues(new Uint8Array(size)), i = 0; i < size; i++) out += (256 + all[i]).toString(16).slice(1);
    return out;
  }
  function keep(name) {
    camp.visitor = id = name;
    try { localStorage.setItem(key, id); } catch (e) {}
    var domain = s.getAttribute("data-domain");
    try {
      d.cookie = key + "=" + id + "; Max-Age=33696000; Path=/; SameSite=Lax" + (l.protocol == "https:" ? "; Secure" : "") +
        (domain ? "; Domain=" + domain : "");
    } catch (e) {}
  }
  function fresh() { keep("visitor:" + hex(16)); }
  function send(what) {
    what.visitor = id; what.view = view; what.url = url;
    var body = JSON.stringify(what), to = base + "/t/page";
    if (w.Request && "keepalive" in Request.prototype)
      fetch(to, { method: "POST", body: body, keepalive: true }).then(function (r) {
        return r.status == 200 && r.json();
      }).then(function (r) { if (r) keep(r.visitor); })["catch"](no);
    else if (n.sendBeacon) n.sendBeacon(to, body);
  }
  function look() { since = d.hidden ? 0 : Date.now(); }
  function leave() {
    if (!since) return;
    seen += Date.now() - since;
    since = 0;
    send({ kind: "left", seconds: Math.round(seen / 100) / 10, times: ++times });
  }
  function page() {
    leave();
    var what = { kind: "viewed", title: d.title, referrer: url || d.referrer, link: link };
    url = l.href.split("#")[0];
    view = hex(8); seen = times = 0; link = "";
    look();
    send(what);
  }
  function start() {
    try { id = (d.cookie.match(/camp_visitor=([^;]*)/) || [])[1]; } catch (e) {}
    try { if (!good.test(id)) id = localStorage.getItem(key); } catch (e) {}
    if (good.test(id)) keep(id); else fresh();
    camp.page = page; camp.reset = fresh;
    page();
  }
  var came = l.hash.match(/^#camp=([\w.-]+)$/);
  if (came) {
    link = came[1];
    history.replaceState(history.state, "", l.pathname + l.search);
  }
  on(d, "visibilitychange", function () {
    if (d.hidden) leave(); else if (view && !since) look();
  });
  on(w, "pagehide", leave);
  on(w, "pageshow", function (e) { if (e.persisted) { since = 0; page(); } });
  on(d, "submit", function (e) {
    var form = e.target, a = d.createElement("a");
    a.href = form.getAttribute("action");
    if (a.href.indexOf(base + "/f/")) return;
    [[key, id], ["camp_page", l.href]].forEach(function (pair) {
      var field = form.elements[pair[0]] || form.appendChild(d.createElement("input"));
      field.type = "hidden"; field.name = pair[0]; field.value = pair[1];
    });
  });
  if (d.prerendering) on(d, "prerenderingchange", start); else start();
})(window, document, navigator, location);
