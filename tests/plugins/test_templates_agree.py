"""The checker's reading of templates, and that it agrees with the plugin that renders them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules_engine import limits
from rules_engine.model import templates
from rules_engine.model.templates import read_template
from rules_engine_plugins import _templates


def write(folder, **files):
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_a_missing_template(tmp_path):
    assert read_template(tmp_path, "none") == templates.TemplateInfo(False)
    assert read_template(tmp_path / "no_folder", "none") == templates.TemplateInfo(False)
    for name in ("../x", "", "/etc/passwd", "a\0", "a" * 300, None):
        assert not read_template(tmp_path, name).exists


def test_what_a_template_asks_for(tmp_path):
    write(
        tmp_path,
        a__txt="Subject: {{ contact.first_name }} {{ code }}\nPreheader: {{ event.total }}\n\n"
        "{{ contact.consent.email }} {{ contact['zip'] }} {{ cart.total }} "
        "{{ contact.city.upper() }} {{ campaign }} {{ unsubscribe_url }}\n"
        "{% for item in rows %}{{ item.x }} {{ loop.index }}"
        "{% include 'row.txt' %}{% endfor %}{% set n = 1 %}{{ n }}{{ range(3) | list }}\n"
        "{% macro m(q) %}{{ q }}{% endmacro %}{{ m(z) }}\n",
        row__txt="{{ item.name }} {{ contact.in_row }} {{ extra }}",
        a__html="{{ contact.nick | default('x') }}{% if gift is defined %}{{ gift }}{% endif %}"
        "{{ code }}{{ late | d(contact.other) }}",
    )
    info = read_template(tmp_path, "a")
    assert info.problems == () and info.exists and info.has_subject and info.files == ("a.txt", "row.txt", "a.html")
    assert info.names == {"code", "cart", "rows", "z", "extra", "gift", "late"}
    assert info.contact_fields == {
        "first_name",
        "consent.email",
        "zip",
        "city",
        "in_row",
        "nick",
        "other",
    } and info.event_fields == {"total"}
    assert info.optional == {"contact.nick", "gift", "late"}


def test_extends_and_blocks(tmp_path):
    write(
        tmp_path,
        a__html="Subject: x\n\n{% extends 'base.html' %}{% block b %}{{ one }}{{ super() }}{% endblock %}",
        base__html="<p>{% block b %}{{ two }}{% endblock %}{{ contact.x }}</p>",
    )
    info = read_template(tmp_path, "a")
    assert info.names == {"one", "two"} and info.contact_fields == {"x"} and info.problems == ()


@pytest.mark.parametrize(
    "text, line, words",
    [
        ("Subject: x\n\none\n{% if %}", 4, "expected an expression"),
        ("{{ a | nofilter }}", 1, "nofilter"),
        ("x\n{{ a is notest }}", 2, "notest"),
        ("Subject: {{ a\n\nb", 1, "end of"),
        ("a\n{% include 'none.txt' %}", 2, "'none.txt' can't be read"),
        ("{% include '../x.txt' %}", 1, "no file below"),
        ("{% include name %}", 1, "must be named by a text"),
        ("Subject: a\nbody", 2, "empty line"),
        ("Subject: a\nSubject: b\n\n", 2, "twice"),
        ("{% include 'link.txt' %}", 1, "leads out"),
        ("{{ [1] | random }}", 1, "random"),
        ("{" * 50 + "{{ " + "(" * 5_000, 1, ""),
    ],
)
def test_problems_have_their_line(tmp_path, text, line, words):
    folder = tmp_path / "templates"
    folder.mkdir()
    (tmp_path / "out.txt").write_text("x")
    (folder / "link.txt").symlink_to(tmp_path / "out.txt")
    write(folder, a__txt=text)
    ((file, number, message),) = read_template(folder, "a").problems
    assert (file, number) == ("a.txt", line) and words in message and "\n" not in message
    with pytest.raises(_templates.TemplateFault):  # what the checker refuses can't be rendered either
        _templates.render(folder, "a", {"a": 1, "name": "b.txt"})


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "b.txt").write_bytes(b"x" * (limits.MAX_SOURCE_BYTES + 1))
    (tmp_path / "c.txt").mkdir()
    assert "UTF-8" in read_template(tmp_path, "a").problems[0][2] and "bytes" in read_template(tmp_path, "b").problems[0][2]
    assert not read_template(tmp_path, "c").exists
    for name in "abc":
        with pytest.raises(_templates.TemplateFault):
            _templates.render(tmp_path, name, {})


def test_a_windows_file(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfSubject: x\r\n\r\nbody {{ code }}\r\n")
    info = read_template(tmp_path, "a")
    assert info.has_subject and info.names == {"code"}
    assert _templates.render(tmp_path, "a", {"code": 1}) == _templates.Rendered("body 1\n", None, "x", None)


def test_a_file_that_includes_itself_is_read_once(tmp_path):
    write(tmp_path, a__txt="{% include 'a.txt' %}{{ x }}")
    assert read_template(tmp_path, "a").names == {"x"}


def test_translations_use_what_the_template_may_use(tmp_path):
    write(tmp_path, a__txt="Subject: x\n\n{{ code }}", a__de__txt="Subject: y\n\n{{ code }} {{ contact.city }} {{ gift }}")
    write(tmp_path, **{"a__de-AT__html": "<b>{{ unsubscribe_url }} {{ view_url }}</b>", "a__v2__txt": "{{ other }}", "ab__de__txt": "{{ no }}"})
    info = read_template(tmp_path, "a")
    assert info.names == {"code", "gift"} and info.contact_fields == {"city"} and info.has_subject
    assert set(info.files) == {"a.txt", "a.de.txt", "a.de-AT.html"}
    ((file, line, message),) = info.problems
    assert file == "a.de-AT.html" and "no subject" in message


def test_a_translation_may_leave_the_subject_to_the_action(tmp_path):
    write(tmp_path, a__txt="hello", a__de__txt="hallo {% if %}")
    info = read_template(tmp_path, "a")
    assert not info.has_subject and [file for file, _, _ in info.problems] == ["a.de.txt"]


def test_a_translation_in_a_folder(tmp_path):
    (tmp_path / "shop").mkdir()
    write(tmp_path / "shop", a__txt="Subject: x\n\n", a__de__txt="Subject: y\n\n{{ gift }}")
    assert read_template(tmp_path, "shop/a").files == ("shop/a.txt", "shop/a.de.txt")
    assert _templates.render(tmp_path, "shop/a", {"gift": 1}, "de-AT").subject == "y"


@pytest.mark.parametrize("locale", ["de", "de-AT", "zh-Hant-TW", "es-419", "fil"])
def test_the_plugin_looks_for_files_as_the_checker_reads_them(locale):
    assert templates.LOCALE.fullmatch(locale) and _templates.tags(locale)[0] == locale


HEADERISH = st.lists(
    st.sampled_from(
        ["Subject: a", "subject:b", "Preheader: p", "PREHEADER :q", "From: x", "Subject", "", " ", "body", "Subject: {{ x }}"]
    ),
    max_size=6,
).map("\n".join)


@given(HEADERISH)
def test_checker_and_plugin_cut_the_header_block_alike(text):
    ours = templates.split_header(text)
    try:
        theirs = _templates.split_header(text)
    except _templates.TemplateFault:
        assert ours.problems
        return
    assert not ours.problems and ours.body == theirs.body and ours.body_line == theirs.skipped + 1
    assert {key: value for key, (_, value) in ours.headers.items()} == theirs.headers


def test_the_copied_limits_and_names_agree():
    assert templates._NAME.pattern == _templates._NAME.pattern and templates._HEADER.pattern == _templates._HEADER.pattern
    assert _templates.MAX_FILE_BYTES == limits.MAX_SOURCE_BYTES and _templates.MAX_RENDERED == limits.MAX_RENDERED_BYTES
    theirs, ours = _templates._environment("/nowhere"), templates._environment()
    assert (
        set(theirs.filters) == set(ours.filters)
        and set(theirs.tests) == set(ours.tests)
        and set(theirs.globals) == set(ours.globals)
    )
