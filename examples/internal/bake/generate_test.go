package bake_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"
)

// maker makes random definitions. Most of them are valid.
type maker struct {
	*rand.Rand
	text    strings.Builder
	targets []string          // of all files
	vars    map[string]string // types by name
	axes    []string          // of the matrix of the current block
	current string
}

// newExample makes a case from a seed.
func newExample(seed uint64) *example {
	m := &maker{Rand: rand.New(rand.NewPCG(seed, 15)), vars: map[string]string{}}
	e := &example{name: fmt.Sprintf("%04d", seed)}
	for i := range 1 + m.IntN(5) {
		m.targets = append(m.targets, string(rune('a'+i)))
	}
	for i := range m.IntN(4) {
		m.vars[fmt.Sprintf("V%d", i)] = m.pick("", "", "string", "number", "bool", "list(string)", "map(string)", "any")
	}
	e.files = append(e.files, txtar.File{Name: "docker-bake.hcl", Data: []byte(m.file(true))})
	if m.chance(4) {
		e.files = append(e.files, txtar.File{Name: "docker-bake.override.hcl", Data: []byte(m.file(false))})
	}
	if m.chance(4) {
		e.files = append(e.files, txtar.File{Name: "docker-bake.override.json", Data: []byte(m.json())})
	}
	m.arguments(e)
	return e
}

// chance reports true in one of n cases.
func (m *maker) chance(n int) bool { return m.IntN(n) == 0 }

func (m *maker) pick(options ...string) string { return options[m.IntN(len(options))] }

// names returns the variables.
func (m *maker) names() []string { return slices.Sorted(maps.Keys(m.vars)) }

func (m *maker) target() string { return m.pick(m.targets...) }

// list returns up to three values in brackets.
func (m *maker) list(value func() string) string {
	var values []string
	for range m.IntN(4) {
		values = append(values, value())
	}
	return "[" + strings.Join(values, ", ") + "]"
}

// file returns the text of a file. The first one defines all targets and variables.
func (m *maker) file(first bool) string {
	m.text.Reset()
	if first {
		m.variables()
		if m.chance(3) {
			m.text.WriteString("function \"twice\" {\n  params = [s]\n  result = \"${s}-${s}\"\n}\n")
		} else {
			m.text.WriteString("function \"twice\" {\n  params = [s]\n  variadic_params = more\n  result = join(\"+\", concat([s, s], more))\n}\n")
		}
	}
	for _, name := range m.targets {
		if first || m.chance(2) {
			m.block(name)
		}
	}
	if first && !m.chance(20) || m.chance(4) {
		members := m.list(func() string { return quote(m.pick(append(m.targets, "other")...)) })
		if members == "[]" || m.chance(2) {
			members = "[" + quote(m.targets[0]) + "]"
		}
		fmt.Fprintf(&m.text, "group \"default\" {\n  targets = %s\n}\n", members)
		fmt.Fprintf(&m.text, "group \"other\" {\n  description = \"others\"\n  targets = [%s]\n}\n", quote(m.target()))
	}
	return m.text.String()
}

func (m *maker) variables() {
	for _, name := range m.names() {
		kind := m.vars[name]
		value := map[string]string{
			"": m.pick(`"u"`, "2.50", "false", m.call()), "string": `"v"`, "number": "7", "bool": "true", "list(string)": `["x", "y"]`, "map(string)": `{ k = "v" }`, "any": "null",
		}[kind]
		fmt.Fprintf(&m.text, "variable %q {\n", name)
		if kind != "" {
			fmt.Fprintf(&m.text, "  type = %s\n", kind)
		}
		if !m.chance(8) {
			fmt.Fprintf(&m.text, "  default = %s\n", value)
		}
		if m.chance(4) {
			fmt.Fprintf(&m.text, "  validation {\n    condition = %s != \"bad\"\n    error_message = \"bad\"\n  }\n", name)
		}
		m.text.WriteString("}\n")
	}
}

func (m *maker) block(name string) {
	fmt.Fprintf(&m.text, "target %q {\n", name)
	m.current, m.axes = name, nil
	if m.chance(6) {
		m.axes = []string{"os", "n"}
		fmt.Fprintf(&m.text, "  name = \"%s-${os}-${n}\"\n  matrix = {\n    os = [\"deb\", \"alp\"]\n    n = [1, 2]\n  }\n", name)
	}
	if m.chance(3) {
		fmt.Fprintf(&m.text, "  inherits = %s\n", m.list(func() string { return quote(m.target()) }))
	}
	written := map[string]bool{}
	for range m.IntN(7) {
		if key, value := m.attribute(); !written[key] {
			written[key] = true
			fmt.Fprintf(&m.text, "  %s = %s\n", key, value)
		}
	}
	m.text.WriteString("}\n")
}

// attribute returns an attribute of a target with a value.
func (m *maker) attribute() (key, value string) {
	if m.chance(25) {
		return m.pick("args", "labels", "tags", "pull", "output", "secret", "ssh", "contexts", "resources", "context", "platforms", "cache-from"), "null"
	}
	switch m.IntN(24) {
	case 0, 1, 2:
		return "args", m.stringMap()
	case 3:
		return "labels", m.stringMap()
	case 4, 5:
		return "tags", m.list(func() string { return m.pick(`"app"`, `"app:1"`, `"x/${"y"}:2"`, `""`, `"app"`, m.text1()) })
	case 6:
		return "platforms", m.list(func() string {
			return m.pick(`"linux/amd64"`, `"linux/arm64"`, `"linux/arm/v7"`, `"linux/amd64,linux/arm64"`, `"local"`)
		})
	case 7:
		return "context", m.pick(`"."`, `"src"`, `"./a/../b/"`, `"https://example.com/a.git#main:d"`, `"cwd://x"`, `""`, m.text1())
	case 8:
		return "contexts", fmt.Sprintf("{ base = %s, lib = %s }", m.pick(`"docker-image://alpine"`, `"../x"`, quote("target:"+m.target())), m.pick(`""`, `"cwd://y"`, `"./z/"`))
	case 9:
		return "dockerfile", m.pick(`"Dockerfile"`, `"a/b.Dockerfile"`, `""`, `"./x/../y"`)
	case 10:
		return "dockerfile-inline", m.pick(`"FROM scratch"`, "<<EOT\nFROM $${X}\nRUN a && b\nEOT", `""`)
	case 11:
		return m.pick("target", "network", "call", "description"), m.pick(`"host"`, `"none"`, `"check"`, m.text1())
	case 12:
		return m.pick("cache-from", "cache-to"), m.list(func() string {
			return m.pick(`"type=gha,scope=x"`, `"app:cache"`, `"app:c1,app:c2"`, `{ type = "registry", ref = "r" }`, `"type=local,src=d"`, `""`, `{ type = "gha" }`)
		})
	case 13, 14:
		return "output", m.list(func() string {
			return m.pick(`"type=registry"`, `"out"`, `{ type = "oci", dest = "x.tar" }`, `"type=image,name=a,push=true"`, `"type=docker"`, `"type=cacheonly"`, `{ type = "image" }`, `"type=oci"`)
		})
	case 15:
		return "secret", m.list(func() string {
			return m.pick(`"id=a,env=A"`, `{ id = "a", env = "B" }`, `"id=b,src=docker-bake.hcl"`, `"type=env,id=c,src=C"`, `{ id = "d", env = "D", type = "env" }`)
		})
	case 16:
		return "attest", m.list(func() string {
			return m.pick(`"type=sbom"`, `"type=provenance,mode=max"`, `{ type = "sbom", disabled = true }`, `{ type = "provenance", mode = "min" }`, `"type=sbom,disabled=true"`)
		})
	case 17:
		return "annotations", m.list(func() string { return m.pick(`"a=b"`, `"index:c=d"`, `"manifest[linux/amd64]:e=$${f}"`, `"a=b"`) })
	case 18:
		return m.pick("pull", "no-cache"), m.pick("true", "false", `"true"`, "1 == 1")
	case 19:
		return m.pick("no-cache-filter", "entitlements"), m.list(func() string { return m.pick(`"x"`, `"network.host"`, `"security.insecure"`, `""`) })
	case 20:
		return "ulimits", m.list(func() string { return m.pick(`"nofile=1024"`, `"nofile=1:2"`, `"nproc=5:-1"`, `"core=0"`) })
	case 21:
		return "extra-hosts", m.pick(`{ a = "1.2.3.4", b = null }`, `{ a = "::1,1.1.1.1" }`, "{}")
	case 22:
		return "resources", m.pick(`{ memory = "1g", cpu-shares = 5 }`, `{ memory-swap = "-1", other = "x" }`, `{ cpu-quota = "7", cpuset-cpus = "0-1" }`)
	}
	return "shm-size", m.pick(`"64m"`, `"1g"`, "1024", `"2kb"`)
}

func (m *maker) stringMap() string {
	var entries []string
	for _, key := range []string{"A", "B", "C", "SOURCE_DATE_EPOCH"} {
		if m.chance(2) && (key != "SOURCE_DATE_EPOCH" || m.chance(8)) {
			entries = append(entries, key+" = "+m.scalar())
		}
	}
	return "{ " + strings.Join(entries, ", ") + " }"
}

func (m *maker) scalar() string {
	return m.pick(`"1"`, "2", "true", "null", "1.50", m.text1(), m.text1(), m.call())
}

// text1 returns an expression that is a string if its variable is.
func (m *maker) text1() string {
	options := []string{`"t"`, `"$${x} %%{y}"`, `"<&>"`, `"é"`, m.call()}
	if m.text.Len() > 0 && m.current != "" {
		options = append(options, fmt.Sprintf("coalesce(target.%s.context, \".\")", m.target()), fmt.Sprintf("\"${target.%s.name}-n\"", m.target()))
		for _, v := range m.names() {
			options = append(options, fmt.Sprintf("%s == null ? \"none\" : \"some\"", v))
			switch m.vars[v] {
			case "", "string", "number", "bool":
				options = append(options, v, "\"v-${"+v+"}\"")
			case "list(string)":
				options = append(options, "join(\",\", "+v+")")
			}
		}
	}
	for _, a := range m.axes {
		options = append(options, a, "\"a-${"+a+"}\"")
	}
	return m.pick(options...)
}

func (m *maker) call() string {
	return m.pick(
		`upper("abc")`, `twice("a")`, `join("-", [for x in ["a", "b"] : upper(x)])`, `replace("1.2", ".", "-")`, `regex_replace("a1b2", "[0-9]", "#")`,
		`jsonencode({ a = [1, null] })`, `format("%s-%03d", "a", 7)`, `coalesce(null, "c")`, `length([1, 2])`, `add(1, 2)`, `trimprefix("v1", "v")`,
		`lookup({ a = "1" }, "b", "none")`, `try(nothing.at.all, "tried")`, `can(1 / 0)`, `base64encode("x")`, `sha256("x")`, `sanitize("a/b:c")`,
		`semvercmp("1.2.3", ">= 1.0")`, `basename("/a/b")`, `slice(["a", "b", "c"], 1, 2)[0]`, `"%{ if true }yes%{ else }no%{ endif }"`, `format("%d", 1)`, `divide(7, 2)`, `10 / 4`,
	)
}

func quote(s string) string { return `"` + s + `"` }

// json returns a file in the JSON syntax.
func (m *maker) json() string {
	var blocks []string
	for i, name := range m.targets {
		if i == 0 || m.chance(2) {
			blocks = append(blocks, fmt.Sprintf(`%q: {"args": {"J": %s}, "tags": [%s], "pull": %s}`, name,
				m.pick(`"1"`, "2", "null", `"${upper(\"x\")}"`), m.pick(`"j:1"`, `"j:${1+1}"`, `"j", "j"`), m.pick("true", "false", "null")))
		}
	}
	return fmt.Sprintf(`{"target": {%s}, "variable": {"J": {"default": "j"}}, "group": {"json": {"targets": [%q]}}}`, strings.Join(blocks, ", "), m.target())
}

func (m *maker) arguments(e *example) {
	for range m.IntN(3) {
		if m.chance(2) {
			e.args = append(e.args, "--set="+m.override())
		}
	}
	for _, v := range m.names() {
		texts := map[string]string{"": m.pick("", "env", "7"), "string": "\"q\"", "number": "8.5", "bool": "f", "list(string)": "p,q", "map(string)": "k:v,l:w", "any": "env"}
		texts[""] = m.pick("1", "true", "env", "")
		values := map[string]string{"": "text", "string": `"j"`, "number": "5", "bool": "true", "list(string)": `["x"]`, "map(string)": `{"k":"w"}`}
		kind := m.vars[v]
		if m.chance(20) {
			kind = m.pick("string", "number", "bool", "list(string)", "map(string)")
		}
		if kind == "any" || kind == "" && m.chance(2) {
			continue
		}
		switch m.IntN(8) {
		case 0:
			e.env = append(e.env, v+"="+texts[kind])
		case 1:
			e.args = append(e.args, "--var="+v+"="+texts[kind])
		case 2:
			e.env = append(e.env, v+"_JSON="+values[kind])
		}
	}
	if m.chance(12) {
		e.env = append(e.env, "SOURCE_DATE_EPOCH=1700000000")
	}
	if m.chance(3) {
		e.args = append(e.args, m.pick("default", m.target(), m.target(), "[ab]*", "*", m.target()+"*"))
	}
}

func (m *maker) override() string {
	pattern := m.pick("*", "*", "[a-z]*", m.target())
	return pattern + "." + m.pick(
		"args.A=set", "arg.N", "tags=t:1", "tags+=t:2", "tags=", "platform=linux/s390x", "output=type=oci,dest=y", "output+=out2", "output=",
		"push=true", "push=false", "load=true", "no-cache=true", "pull=false", "context=ctx", "contexts.base=docker-image://b",
		"labels.L=1", "secret=id=s,env=S", "ssh=", "attest=type=sbom", "annotations+=k=v", "cache-from=app:c", "cache-from+=type=gha",
		"cache-to=type=inline", "network=host", "entitlements=network.host", "extra-hosts.h=1.1.1.1", "ulimit=nofile=3", "shm-size=1m", "target=st",
		"dockerfile=D", "call=outline", "resources.memory=2g", "resource.cpu-shares=4", "no-cache-filter=f", m.pick("arg=1", "tags.x=1", "unknown=1", "no-cache=maybe", "args.B=two"),
	)
}
