package plan

import (
	"strings"
	"testing"
)

func TestParsePorts(t *testing.T) {
	t.Parallel()
	f := parse(t, "FROM scratch\nEXPOSE 1\n")
	m := f.Stages[0].Instructions[0].Info()
	for _, test := range []struct{ spec, want, rules string }{
		{"80", "80/tcp", ""},
		{"0", "0/tcp", ""},
		{"65535/udp", "65535/udp", ""},
		{"80/sctp", "80/sctp", ""},
		{"80/TCP", "80/tcp", "ExposeProtoCasing"},
		{"1-3/udp", "1/udp 2/udp 3/udp", ""},
		{"5-5", "5/tcp", ""},
		{"8080:80", "80/tcp", "ExposeInvalidFormat"},
		{"127.0.0.1:8080:80/Udp", "80/udp", "ExposeProtoCasing ExposeInvalidFormat"},
		{"127.0.0.1::80", "80/tcp", "ExposeInvalidFormat"},
		{"[::1]:8080:80", "80/tcp", "ExposeInvalidFormat"},
		{"::1:8080:80", "80/tcp", "ExposeInvalidFormat"},
		{"1-3:4-6", "4/tcp 5/tcp 6/tcp", "ExposeInvalidFormat"},
		{"1000-2000:80", "80/tcp", "ExposeInvalidFormat"}, // any range for one port
		{":80", "80/tcp", ""},
	} {
		lint := f.Lint()
		got, err := parsePorts(test.spec, m, lint)
		if err != nil || strings.Join(got, " ") != test.want || rules(lint.Warnings()) != test.rules {
			t.Errorf("%s: %q, %v, warnings %s; want %q, %s", test.spec, got, err, rules(lint.Warnings()), test.want, test.rules)
		}
	}
	for spec, want := range map[string]string{
		"":                     `invalid port: "": no port specified`,
		"/tcp":                 `invalid port: "/tcp": no port specified`,
		"80:":                  `invalid port: "80:": no port specified`,
		"80/tcp/udp":           `invalid port: "80/tcp/udp": invalid proto: tcp/udp: want tcp, udp or sctp`,
		"http":                 `invalid containerPort: http: "http" is not a number`,
		"1-":                   `invalid containerPort: 1-: "" is not a number`,
		"3-1":                  "invalid containerPort: 3-1: it ends before it starts",
		"-1":                   `invalid containerPort: -1: "" is not a number`,
		"1-70000":              "invalid containerPort: 1-70000: value out of range (0–65535)",
		"x:80":                 `invalid hostPort: x: "x" is not a number`,
		"70000:80":             "invalid hostPort: 70000: value out of range (0–65535)",
		"1-2:1-3":              "invalid ranges specified for container and host Ports: 1-3 and 1-2",
		"1:2-3":                "invalid ranges specified for container and host Ports: 2-3 and 1",
		"localhost:1:80":       "invalid IP address: localhost",
		"[::1:8080:80":         "invalid IP address [::1: address [::1:: missing ']' in address",
		"300.0.0.1:8080:80":    "invalid IP address: 300.0.0.1",
		"18446744073709551616": `invalid containerPort: 18446744073709551616: "18446744073709551616" is not a number`,
	} {
		if got, err := parsePorts(spec, m, f.Lint()); err == nil || err.Error() != want {
			t.Errorf("%q: %q, error %v, want %s", spec, got, err, want)
		}
	}
}

func TestExpose(t *testing.T) {
	t.Parallel()
	checkPlans(t, configView("ExposedPorts"), []planCase{
		{name: "added to the base image's", text: "FROM full\nEXPOSE 1\nEXPOSE 1/udp\n", want: `{"1/tcp":{},"1/udp":{},"80/tcp":{}}`},
		{name: "variable with several words", text: "FROM scratch\nARG P=\"1 2/udp\"\nEXPOSE $P 3\n", want: `{"1/tcp":{},"2/udp":{},"3/tcp":{}}`},
		{name: "empty variable", text: "FROM scratch\nARG P\nEXPOSE 1 $P\n", want: `{"1/tcp":{}}`},
		{name: "port and protocol", text: "FROM scratch\nARG P=1 Q=udp\nEXPOSE $P/$Q\n", want: `{"1/udp":{}}`},
		{name: "error in a variable", text: "FROM scratch\nARG P=1,2\nEXPOSE $P\n", err: `Dockerfile:3: invalid containerPort: 1,2: "1,2" is not a number`},
		{name: "syntax", text: "FROM scratch\nEXPOSE ${P\n", err: `Dockerfile:2: "${P": syntax error: missing '}'`},
	})
	checkPlans(t, historyView, []planCase{
		{name: "sorted as they are written", text: "FROM scratch\nEXPOSE 2 1-2/udp 2\n", want: "- EXPOSE [1/udp 2/udp 2/tcp 2/tcp]\n"},
	})
}

func TestTooManyPorts(t *testing.T) {
	t.Parallel()
	const all = "0-65535/tcp 0-65535/udp 0-65535/sctp"
	p := mustPlan(t, "FROM scratch\nEXPOSE "+all+"\n", nil)
	if n := len(p.Config.Config.ExposedPorts); n != maxPorts {
		t.Errorf("%d ports, want %d", n, maxPorts)
	}
	f := parse(t, "FROM scratch\nEXPOSE "+all+" 1\n")
	if _, err := Make(t.Context(), Input{File: f, Base: testBase}); err == nil || err.Error() != "Dockerfile:2: more than 196608 ports" {
		t.Errorf("error %v", err)
	}
}

func TestSplitPorts(t *testing.T) {
	t.Parallel()
	for spec, want := range map[string][3]string{
		"80":          {"", "", "80"},
		"1:80":        {"", "1", "80"},
		"a:1:80":      {"a", "1", "80"},
		"::1:1:80":    {"::1", "1", "80"},
		"[::1]::80":   {"[::1]", "", "80"},
		":":           {"", "", ""},
		"80/tcp:1/ud": {"", "80/tcp", "1/ud"},
	} {
		ip, host, port := splitPorts(spec)
		if got := [3]string{ip, host, port}; got != want {
			t.Errorf("%q: %q, want %q", spec, got, want)
		}
	}
}
