package manifest

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestJSON(t *testing.T) {
	text := "\ufeff{\n// one, \"two\"\n\"a\": \"x // y, ]\", /* , */ \"b\": [\"1\", 2, \"3\",],\n\"c\": {\"d\": 1.5,},\n}"
	d, err := JSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if d.String("a") != "x // y, ]" || !slices.Equal(d.Strings("b"), []string{"1", "3"}) || d.String("c", "d") != "1.5" || d.Has("c", "e") {
		t.Errorf("%v", d)
	}
	for _, text := range []string{"", "[]", "null", "{", `{"a": /*`, `{"a": "`} {
		if d, err := JSON([]byte(text)); err == nil {
			t.Errorf("%q: %v", text, d)
		}
	}
}

// A value of another type is as good as a missing one.
func TestTypes(t *testing.T) {
	d, err := TOML([]byte("a = 1\nb = [\"x\", 2]\n[c]\nd = \"e\"\n[[bin]]\nname = \"n\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if d.String("c") != "" || d.Object("a") != nil || d.Strings("a") != nil || d.String("a") != "1" || d.Keys("b") != nil {
		t.Errorf("%v", d)
	}
	if list := d.Objects("bin"); len(list) != 1 || list[0].String("name") != "n" {
		t.Errorf("bin: %v", list)
	}
	if (Document)(nil).String("a", "b") != "" {
		t.Error("a missing document has a value")
	}
}

func TestXML(t *testing.T) {
	e, err := XML([]byte(`<project xmlns="x"><a> 1 <b c="d">2</b> 3</a><a/></project>`))
	if err != nil {
		t.Fatal(err)
	}
	if e.Get("a") != "1" || e.Get("a", "b") != "2" || e.Child("a", "b").Attrs["c"] != "d" || len(e.All("a")) != 2 || e.Child("x").Child("y") != nil {
		t.Errorf("%+v", e)
	}
	for _, text := range []string{"", "<a>", strings.Repeat("<a>", 200), "<a></b>", "<a/><b/>"} {
		if _, err := XML([]byte(text)); err == nil {
			t.Errorf("%.20q has no error", text)
		}
	}
}

func TestGoMod(t *testing.T) {
	m, err := GoMod([]byte("module example.com/x\ngo 1.24.0\ntoolchain go1.25.3\nrequire (\n\ta.b/c v1.0.0\n)\nreplace a.b/c => ./c\n"))
	want := GoModule{"example.com/x", "1.24.0", "1.25.3", []string{"a.b/c"}, []string{"c"}}
	if err != nil || !reflect.DeepEqual(m, want) {
		t.Errorf("%+v, %v, want %+v", m, err, want)
	}
}

func TestRequirements(t *testing.T) {
	r := ParseRequirements([]byte("# x\nFlask[async] >= 3 ; python_version > '3'\n-r base.txt\n--constraint=c.txt\n-e .\nzope.interface==1 # y\nhttps://x/y.whl\n"))
	want := Requirements{[]string{"flask[async]", "zope-interface", "https"}, []string{"base.txt", "c.txt"}, true}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("%+v, want %+v", r, want)
	}
}

func TestGradle(t *testing.T) {
	g := ParseGradle([]byte(`
plugins {
    kotlin("jvm") version "2.0"
    id("org.springframework.boot") version "3.4.0"
    // id("io.quarkus")
    alias(libs.plugins.shadow)
    application
}
java { toolchain { languageVersion = JavaLanguageVersion.of(21) } }
application { mainClass.set("a.MainKt") }
dependencies { implementation("org.postgresql:postgresql:42.0") }
`))
	for _, id := range []string{"org.jetbrains.kotlin.jvm", "org.springframework.boot", "application"} {
		if _, ok := g.Plugins[id]; !ok {
			t.Errorf("no plugin %s in %v", id, g.Plugins)
		}
	}
	if len(g.Plugins) != 3 || g.Java != "21" || g.MainClass != "a.MainKt" || !slices.Equal(g.Aliases, []string{"shadow"}) || !slices.Contains(g.Dependencies, "org.postgresql:postgresql") {
		t.Errorf("%+v", g)
	}
	name, projects := GradleSettings([]byte("rootProject.name = 'shop'\ninclude 'api', ':lib:core'\ninclude(\"web\")\n"))
	if name != "shop" || !slices.Equal(projects, []string{"api", "lib:core", "web"}) {
		t.Errorf("%q, %q", name, projects)
	}
}

func TestGems(t *testing.T) {
	g := GemfileLock([]byte("GEM\n  specs:\n    rack (3.0)\n      base64 (>= 0)\n\nRUBY VERSION\n   ruby 3.3.1p55\n\nBUNDLED WITH\n   2.5.1\n"))
	if !reflect.DeepEqual(g, Gems{"3.3.1", []string{"rack"}, "2.5.1"}) {
		t.Errorf("%+v", g)
	}
	g = Gemfile([]byte("ruby '~> 3.2'\n# gem 'no'\ngem 'rails', '8'\n  gem \"pg\"\n"))
	if !reflect.DeepEqual(g, Gems{"~> 3.2", []string{"rails", "pg"}, ""}) {
		t.Errorf("%+v", g)
	}
}

func TestVersions(t *testing.T) {
	if v := VersionFile([]byte("\n# x\n 3.12.1 # y\n")); v != "3.12.1" {
		t.Errorf("%q", v)
	}
	m, err := Mise([]byte("[tools]\nnode = \"22\"\npython = [\"3.12\", \"3.11\"]\ngo = { version = \"1.26\" }\n"))
	if want := map[string]string{"node": "22", "python": "3.12", "go": "1.26"}; err != nil || !reflect.DeepEqual(m, want) {
		t.Errorf("%v, %v, want %v", m, err, want)
	}
}
