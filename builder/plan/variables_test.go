package plan

import (
	"slices"
	"strings"
	"testing"
)

func TestEnvOrder(t *testing.T) {
	t.Parallel()
	var e env
	e.set("A", "1")
	e.set("B", "2")
	e.set("A", "3") // moves to the end
	copied := e.clone()
	e.unset("B")
	e.unset("NONE")
	e.set("C", "")
	if got := strings.Join(e.list(), " "); got != "A=3 C=" {
		t.Errorf("got %s", got)
	}
	if got := strings.Join(copied.list(), " "); got != "B=2 A=3" {
		t.Errorf("the copy has %s", got)
	}
	if v, ok := e.Get("C"); v != "" || !ok {
		t.Errorf("C is %q, %t, want empty and set", v, ok)
	}
	if _, ok := e.Get("B"); ok {
		t.Error("B is still set")
	}
}

// A variable of the configuration keeps its position, unlike one of the environment.
func TestSetConfigEnv(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ list, key, value, want string }{
		{"A=1 B=2", "A", "3", "A=3 B=2"},
		{"A=1 B=2", "C", "3", "A=1 B=2 C=3"},
		{"A B=2", "A", "3", "A=3 B=2"},     // no "=" in the base image's list
		{"AB=1 A=2", "A", "3", "AB=1 A=3"}, // not the variable whose name begins with it
		{"A=b=c B=2", "A", "", "A= B=2"},   // the value has a "="
		{"A=1 A=2", "A", "3", "A=3 A=2"},   // only the first of two
		{"a=1", "A", "3", "a=1 A=3"},       // case matters
		{"PATH=/bin", "PATH", "/x", "PATH=/x"},
	} {
		if got := strings.Join(setConfigEnv(strings.Fields(test.list), test.key, test.value), " "); got != test.want {
			t.Errorf("%s with %s=%s is %q, want %q", test.list, test.key, test.value, got, test.want)
		}
	}
}

func TestProxyEnv(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		args map[string]string
		want string
	}{
		{"none", map[string]string{"A": "1"}, ""},
		{"both cases", map[string]string{"HTTP_PROXY": "a"}, "HTTP_PROXY=a http_proxy=a"},
		{"lower case wins", map[string]string{"HTTP_PROXY": "a", "http_proxy": "b"}, "HTTP_PROXY=b http_proxy=b"},
		{"mixed case", map[string]string{"No_Proxy": "x"}, "NO_PROXY=x no_proxy=x"},
		{"empty is unset", map[string]string{"FTP_PROXY": ""}, ""},
		{"fixed order", map[string]string{"all_proxy": "1", "no_proxy": "2", "ftp_proxy": "3", "https_proxy": "4", "http_proxy": "5"},
			"HTTP_PROXY=5 http_proxy=5 HTTPS_PROXY=4 https_proxy=4 FTP_PROXY=3 ftp_proxy=3 NO_PROXY=2 no_proxy=2 ALL_PROXY=1 all_proxy=1"},
	} {
		if got := strings.Join(proxyEnv(test.args), " "); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestArgScope(t *testing.T) {
	t.Parallel()
	checkPlans(t, envView, []planCase{
		{name: "build argument before default", text: "FROM scratch\nARG A=1\nENV B=$A\n", options: `{"Args":{"A":"2"}}`, want: "B=2"},
		{name: "empty build argument", text: "FROM scratch\nARG A=1\nENV B=x$A\n", options: `{"Args":{"A":""}}`, want: "B=x"},
		{name: "stage default before global", text: "ARG A=1\nFROM scratch\nARG A=2\nENV B=$A\n", want: "B=2"},
		{name: "global needs a declaration", text: "ARG A=1\nFROM scratch\nENV B=x$A\n", want: "B=x"},
		{name: "undeclared build argument", text: "FROM scratch\nENV B=x$A\n", options: `{"Args":{"A":"2"}}`, want: "B=x"},
		{name: "only after the declaration", text: "FROM scratch\nENV B=x$A\nARG A=1\nENV C=x$A\n", want: "B=x C=x1"},
		{name: "not in the next stage", text: "FROM scratch\nARG A=1\nFROM scratch\nENV B=x$A\n", want: "B=x"},
		{name: "in stages on the stage", text: "FROM scratch AS a\nARG A=1\nFROM a AS b\nFROM b\nENV B=$A\n", want: "B=1"},
		{name: "default uses ENV", text: "FROM scratch\nENV E=1\nARG A=$E$E\nENV B=$A\n", want: "E=1 B=11"},
		{name: "default uses earlier ARG", text: "FROM scratch\nARG A=1\nARG B=${A}2\nENV C=$B\n", want: "C=12"},
		{name: "declared again without value", text: "FROM scratch\nARG A=1\nARG A\nENV B=$A\n", want: "B=1"},
		{name: "ENV after ARG", text: "FROM scratch\nARG A=1\nENV A=2\nENV B=$A\n", want: "A=2 B=2"},
		{name: "ENV refers to itself", text: "FROM scratch\nENV A=1\nENV A=$A:2\n", want: "A=1:2"},
		{name: "one ENV sees the state before it", text: "FROM scratch\nENV A=1\nENV A=2 B=$A\n", want: "A=2 B=1"},
		{name: "of the base image", text: "FROM full\nENV B=$A\n", want: "A=base B=base"},
		{name: "ARG hides the base image's", text: "FROM full\nARG A=own\nENV B=$A\n", want: "A=base B=own"},
		{name: "predefined needs a declaration", text: "FROM scratch\nENV B=x$TARGETARCH\n", want: "B=x"},
		{name: "predefined by build argument", text: "FROM scratch\nARG TARGETARCH\nENV B=$TARGETARCH\n", options: `{"Args":{"TARGETARCH":"vax"}}`, want: "B=vax"},
		{name: "predefined before default", text: "FROM scratch\nARG TARGETARCH=vax\nENV B=$TARGETARCH\n", want: "B=vax"},
		{name: "proxies are not variables", text: "FROM scratch\nENV B=x$http_proxy\n", options: `{"Args":{"http_proxy":"p"}}`, want: "B=x"},
		{name: "declared proxy", text: "FROM scratch\nARG http_proxy\nENV B=$http_proxy\n", options: `{"Args":{"http_proxy":"p"}}`, want: "B=p"},
		{name: "error in a global default", text: "ARG A=${\nFROM scratch\n", err: `Dockerfile:1: "${": syntax error: missing '}'`},
		{name: "error in a stage default", text: "FROM scratch\nARG A=${B:?missing}\n", err: `Dockerfile:2: "${B:?missing}": B: missing`},
	})
}

func TestPredefinedArgs(t *testing.T) {
	t.Parallel()
	const head = "FROM scratch AS last\nARG "
	show := func(names ...string) string {
		text := head + strings.Join(names, " ") + "\n"
		for _, name := range names {
			text += "ENV E" + name + "=$" + name + "\n"
		}
		return text
	}
	checkPlans(t, envView, []planCase{
		{name: "target", text: show("TARGETPLATFORM", "TARGETOS", "TARGETARCH", "TARGETVARIANT"), options: `{"Platform":"linux/arm/v6"}`,
			want: "ETARGETPLATFORM=linux/arm/v6 ETARGETOS=linux ETARGETARCH=arm ETARGETVARIANT=v6"},
		{name: "build", text: show("BUILDPLATFORM", "BUILDOS", "BUILDARCH", "BUILDVARIANT"), options: `{"Platform":"linux/arm64","Build":"linux/arm/v7"}`,
			want: "EBUILDPLATFORM=linux/arm/v7 EBUILDOS=linux EBUILDARCH=arm EBUILDVARIANT=v7"},
		{name: "default target is the build platform", text: show("TARGETPLATFORM"), options: `{"Build":"linux/s390x"}`, want: "ETARGETPLATFORM=linux/s390x"},
		{name: "name of the last stage", text: show("TARGETSTAGE"), want: "ETARGETSTAGE=last"},
		{name: "target as it is written", text: show("TARGETSTAGE"), options: `{"Target":"LAST"}`, want: "ETARGETSTAGE=LAST"},
	})
}

func TestGlobalArgsInFrom(t *testing.T) {
	t.Parallel()
	bases := func(_ *testing.T, p *Plan) string {
		var list []string
		for _, s := range p.Stages {
			list = append(list, s.Base+" "+s.Platform.String())
		}
		return strings.Join(list, ", ")
	}
	const busybox = "docker.io/library/busybox:latest"
	checkPlans(t, bases, []planCase{
		{name: "name", text: "ARG I=busybox\nFROM $I\n", want: busybox + " linux/amd64"},
		{name: "part of a name", text: "ARG T=12\nFROM debian:${T}\n", want: "docker.io/library/debian:12 linux/amd64"},
		{name: "default of an unset one", text: "ARG I\nFROM ${I:-busybox}\n", want: busybox + " linux/amd64"},
		{name: "chain", text: "ARG A=box\nARG I=busy$A\nFROM $I\n", want: busybox + " linux/amd64"},
		{name: "chain with build argument", text: "ARG A=cat\nARG I=busy$A\nFROM $I\n", options: `{"Args":{"A":"box"}}`, want: busybox + " linux/amd64"},
		{name: "stage by variable", text: "ARG S=a\nFROM busybox AS a\nFROM $S\n", want: busybox + " linux/amd64, a linux/amd64"},
		{name: "platform", text: "FROM --platform=$BUILDPLATFORM busybox\n", options: `{"Platform":"linux/arm64"}`, want: busybox + " linux/amd64"},
		{name: "predefined one by build argument", text: "FROM --platform=$BUILDPLATFORM busybox\n", options: `{"Args":{"BUILDPLATFORM":"linux/s390x"}}`, want: busybox + " linux/s390x"},
		{name: "platform in parts", text: "ARG ARCH=arm64\nFROM --platform=linux/$ARCH busybox\n", want: busybox + " linux/arm64"},
		{name: "ARG of a stage is not global", text: "FROM scratch\nARG I=busybox\nFROM $I\n",
			err: "Dockerfile:3: base name ($I) should not be blank: write ARG I=IMAGE above the first FROM, or ARG I and build with --build-arg I=IMAGE"},
		{name: "syntax of a base", text: "FROM ${I\n", err: `Dockerfile:1: "${I": syntax error: missing '}'`},
		{name: "syntax of a platform", text: "FROM --platform=${P busybox\n", err: `Dockerfile:1: --platform=${P: "${P": syntax error: missing '}'`},
		{name: "blank without a variable", text: `FROM ""` + "\n", err: `Dockerfile:1: base name ("") should not be blank`},
		{name: "unset platform, no name like it", text: "FROM --platform=$XYZ busybox\n", err: "Dockerfile:1: empty platform value from expression $XYZ"},
		{name: "part of a platform is a typing error", text: "FROM --platform=linux/$TARGETRACH busybox\n",
			err: `Dockerfile:1: --platform=linux/$TARGETRACH: platform "linux/": "" is not a valid part, want os/arch or os/arch/variant (did you mean TARGETARCH?)`},
	})
}

func TestRunEnvironment(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, options, want string }{
		{"ARG in the environment", "FROM busybox\nARG A=1\nRUN x\n", "", "PATH=/bin A=1"},
		{"unset ARG", "FROM busybox\nARG A\nRUN x\n", "", "PATH=/bin"},
		{"ENV moves an ARG to the end", "FROM busybox\nARG A=1\nARG B=2\nENV A=3\nRUN x\n", "", "PATH=/bin B=2 A=3"},
		{"no proxies", "FROM busybox\nRUN x\n", `{"Args":{"http_proxy":"p"}}`, "PATH=/bin"},
		{"declared proxy", "FROM busybox\nARG http_proxy\nRUN x\n", `{"Args":{"http_proxy":"p"}}`, "PATH=/bin http_proxy=p"},
		{"scanner arguments are not passed", "FROM busybox\nARG BUILDKIT_SBOM_SCAN_CONTEXT=true\nRUN x\n", "", "PATH=/bin"},
		{"default PATH", "FROM bare\nRUN x\n", "", "PATH=" + defaultPath},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p, err := makePlan(t, test.text, test.options)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(lastRun(t, p).Env, " "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// The history lists ARGs in scope with their values when the RUN runs.
func TestRunHistoryHasArgs(t *testing.T) {
	t.Parallel()
	checkPlans(t, historyView, []planCase{
		{name: "values", text: "FROM bare\nARG A=1 B\nENV A=2\nRUN x\n", want: "- ARG A=1 B\n- ENV A=2\nL RUN |2 A=2 B= /bin/sh -c x # buildkit\n"},
		{name: "declared twice", text: "FROM bare\nARG A=1\nARG A=2\nRUN x\n", want: "- ARG A=1\n- ARG A=2\nL RUN |1 A=2 /bin/sh -c x # buildkit\n"},
		{name: "exec form", text: "FROM bare\nARG A=1\nRUN [\"a\",\"b\"]\n", want: "- ARG A=1\nL RUN |1 A=1 a b # buildkit\n"},
	})
}

func TestMaskedSecrets(t *testing.T) {
	t.Parallel()
	var e env
	e.set("A", "1")
	m := masked{names: []string{"TOKEN"}, env: &e}
	for name, want := range map[string]string{"A": "1", "TOKEN": "****"} {
		if got, ok := m.Get(name); got != want || !ok {
			t.Errorf("%s is %q, %t, want %q", name, got, ok, want)
		}
	}
	if got := m.Keys(); !slices.Equal(got, []string{"A", "TOKEN"}) {
		t.Errorf("keys: %v", got)
	}
}
