/* Camp: page visits. First party only: the id is kept in this site's own storage; nothing from elsewhere is read or set.
   <script src="https://news.example/camp.js" defer data-domain="shop.example"></script> */
(function (w, d, n) {
  var s = d.currentScript, base = s.src.replace(/\/camp\.js.*$/, ""), key = "camp_visitor";
  if (__RESPECT__ && (n.doNotTrack == "1" || n.globalPrivacyControl)) return;
  var good = /^visitor:[0-9a-f]{32}$/;
  function hex(size) {
    var out = "";
    crypto.getRandomValues(new Uint8Array(size)).forEach(function (x) { out += (256 + x).toString(16).slice(1); });
    return out;
  }
  function visitor() {
    var found = d.cookie.match(/(?:^|; )camp_visitor=([^;]*)/), id = found && decodeURIComponent(found[1]);
    try { if (!good.test(id)) id = localStorage.getItem(key); } catch (e) {}
    if (!good.test(id)) id = "visitor:" + hex(16);
    try { localStorage.setItem(key, id); } catch (e) {}
    var domain = s.getAttribute("data-domain");
    d.cookie = key + "=" + id + "; Max-Age=33696000; Path=/; SameSite=Lax" + (location.protocol == "https:" ? "; Secure" : "") +
      (domain ? "; Domain=" + domain : "");
    return id;
  }
  var id = visitor(), view, since, seen, times, link;
  function send(what) {
    what.visitor = id;
    what.view = view;
    what.url = location.href;
    what.path = location.pathname;
    var body = JSON.stringify(what);
    if (!(n.sendBeacon && n.sendBeacon(base + "/t/page", body)))
      fetch(base + "/t/page", { method: "POST", body: body, keepalive: true, mode: "no-cors" });
  }
  function leave() {
    if (!since) return;
    seen += Date.now() - since;
    since = 0;
    send({ kind: "left", seconds: Math.round(seen / 100) / 10, times: ++times });
  }
  function page() {
    leave();
    view = hex(8); seen = 0; times = 0; since = Date.now();
    var what = { kind: "viewed", title: d.title, referrer: d.referrer };
    if (link) what.link = link;
    link = "";
    send(what);
  }
  var came = location.hash.match(/^#camp=([\w.-]+)$/);
  if (came) {
    link = came[1];
    history.replaceState(history.state, "", location.pathname + location.search);
  }
  d.addEventListener("visibilitychange", function () {
    if (d.visibilityState == "hidden") leave(); else if (!since) since = Date.now();
  });
  w.addEventListener("pagehide", leave);
  d.addEventListener("submit", function (e) {
    var form = e.target;
    if (!form.action || form.action.indexOf(base + "/f/")) return;
    [[key, id], ["camp_page", location.href]].forEach(function (pair) {
      var field = form.elements[pair[0]] || form.appendChild(d.createElement("input"));
      field.type = "hidden"; field.name = pair[0]; field.value = pair[1];
    });
  }, true);
  w.camp = { page: page, visitor: id };
  page();
})(window, document, navigator);
