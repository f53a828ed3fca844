package plan

import (
	"errors"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/dockerfile"
)

func TestPrivileges(t *testing.T) {
	t.Parallel()
	const need = " is not allowed: pass --allow "
	denied := func(name string) string {
		return "Dockerfile:2: " + name + need + name + " if you trust the Dockerfile with it"
	}
	how := func(t *testing.T, p *Plan) string {
		t.Helper()
		run := lastRun(t, p)
		return strings.TrimSpace(run.Network + map[bool]string{true: " insecure", false: ""}[run.Insecure])
	}
	insecure, host := "FROM bare\nRUN --security=insecure x\n", "FROM bare\nRUN --network=host x\n"
	checkPlans(t, how, []planCase{
		{name: "insecure", text: insecure, err: denied("security.insecure")},
		{name: "insecure with another privilege", text: insecure, options: `{"Allow":["network.host"]}`, err: denied("security.insecure")},
		{name: "insecure allowed", text: insecure, options: `{"Allow":["security.insecure"]}`, want: "insecure"},
		{name: "sandbox", text: "FROM bare\nRUN --security=sandbox x\n", want: ""},
		{name: "host", text: host, err: denied("network.host")},
		{name: "host allowed", text: host, options: `{"Allow":["network.host"]}`, want: "host"},
		{name: "build on the host's network", text: host, options: `{"Network":"host"}`, want: "host"},
		{name: "network of the build", text: "FROM bare\nRUN x\n", options: `{"Network":"none"}`, want: "none"},
		{name: "RUN before the build", text: "FROM bare\nRUN --network=none x\n", options: `{"Network":"host"}`, want: "none"},
		{name: "default of a RUN is the build's", text: "FROM bare\nRUN --network=default x\n", options: `{"Network":"none"}`, want: "none"},
		{name: "default", text: "FROM bare\nRUN x\n", options: `{"Network":"default"}`, want: ""},
		{name: "unknown mode of the build", text: "FROM bare\n", options: `{"Network":"container:a"}`, err: `network "container:a": want default, none or host`},
		{name: "both privileges of a stage that is not needed", text: "FROM bare\nRUN --security=insecure x\nFROM scratch\nWORKDIR /\nFROM bare\nRUN x\n", want: ""},
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	const device = "not supported yet by cairn: RUN --device: devices are injected by a container runtime (CDI), and cairn has none"
	checkPlans(t, rootView, []planCase{
		{name: "device", text: "FROM bare\nRUN --device=vendor.com/gpu x\n", err: "Dockerfile:2: " + device},
		{name: "by a trigger", text: "FROM bare AS a\nONBUILD RUN --device=vendor.com/gpu x\nFROM a\n", err: "Dockerfile:3: " + device},
		{name: "not in a stage that is not needed", text: "FROM bare\nRUN --device=vendor.com/gpu x\nFROM scratch\n", want: "scratch"},
	})
}

// An error has the file and the lines of the instruction, and shows them.
func TestErrorLines(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, text  string
		first, last int
	}{
		{"one line", "FROM bare\nSTOPSIGNAL NONE\n", 2, 2},
		{"continued", "FROM bare\nENV A=1 \\\n  B=${ \\\n  C=3\nRUN x\n", 2, 4},
		{"heredoc", "FROM bare\nCOPY <<a/b /\nx\na/b\nRUN x\n", 2, 4},
		{"comments above", "FROM bare\n\n# comment\nSTOPSIGNAL NONE\n", 4, 4},
		{"FROM", "\n\nFROM missing\n", 3, 3},
		{"image of COPY", "FROM bare\nRUN x\nCOPY --from=missing a \\\n /\n", 3, 4},
		{"global ARG", "\nARG A=${\nFROM bare\n", 2, 2},
		{"trigger of an image", "FROM bare\nFROM badonbuild\n", 2, 2},
	} {
		_, err := makePlan(t, test.text, "")
		var e *dockerfile.Error
		if !errors.As(err, &e) || len(e.Ranges) == 0 {
			t.Errorf("%s: error %v, want one with lines", test.name, err)
			continue
		}
		if at := e.Ranges[0]; at.First != test.first || at.Last != test.last {
			t.Errorf("%s: lines %d to %d, want %d to %d", test.name, at.First, at.Last, test.first, test.last)
		}
		if !strings.Contains(e.Excerpt(), ">>> ") || !strings.HasPrefix(err.Error(), "Dockerfile:") {
			t.Errorf("%s: %v\n%s", test.name, err, e.Excerpt())
		}
	}
}
