package plan

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/plan/op"
)

// planCase is a Dockerfile with its options, as in testdata, and the expected view of
// its plan or the expected error.
type planCase struct {
	name, text, options string
	want                string
	err                 string // complete, with file and line
}

// checkPlans plans each case and compares a view of the plan.
func checkPlans(t *testing.T, view func(*testing.T, *Plan) string, cases []planCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := makePlan(t, c.text, c.options)
			switch {
			case c.err != "" && (err == nil || err.Error() != c.err):
				t.Errorf("error %v, want %q", err, c.err)
			case c.err != "":
			case err != nil:
				t.Error(err)
			default:
				if got := view(t, p); got != c.want {
					t.Errorf("got\n%s\nwant\n%s", got, c.want)
				}
			}
		})
	}
}

// envView returns the variables of the image except PATH.
func envView(_ *testing.T, p *Plan) string {
	var list []string
	for _, kv := range p.Config.Config.Env {
		if !strings.HasPrefix(kv, "PATH=") {
			list = append(list, kv)
		}
	}
	return strings.Join(list, " ")
}

// historyView returns the texts of the history, one a line. Layers begin with "L".
func historyView(_ *testing.T, p *Plan) string {
	var b strings.Builder
	for _, h := range p.Config.History {
		b.WriteString(map[bool]string{true: "- ", false: "L "}[h.EmptyLayer] + h.CreatedBy + "\n")
	}
	return b.String()
}

// nameView returns the names of the steps, one a line, with short digests.
func nameView(_ *testing.T, p *Plan) string {
	var b strings.Builder
	for _, s := range p.Steps {
		b.WriteString(strings.ReplaceAll(s.Name, strings.Repeat("d", 64), "d") + "\n")
	}
	return b.String()
}

// warningView returns the warnings, one a line: rule, line, detail.
func warningView(_ *testing.T, p *Plan) string {
	var b strings.Builder
	for _, w := range p.Warnings {
		b.WriteString(w.Rule + ": " + w.Detail + "\n")
	}
	return b.String()
}

// rootView returns the operation of the target's last step.
func rootView(t *testing.T, p *Plan) string {
	t.Helper()
	if p.Root == nil {
		return "scratch"
	}
	return p.Root.Op
}

// configView returns a function that shows one field of the image's configuration as
// JSON.
func configView(field string) func(*testing.T, *Plan) string {
	return func(t *testing.T, p *Plan) string {
		t.Helper()
		raw, err := json.Marshal(p.Config.Config)
		if err != nil {
			t.Fatal(err)
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(raw, &fields); err != nil {
			t.Fatal(err)
		}
		return string(unescaped(fields[field]))
	}
}

// lastRun returns the RUN that is the target's last step.
func lastRun(t *testing.T, p *Plan) op.Run {
	t.Helper()
	o, err := op.Decode(p.Root)
	if err != nil {
		t.Fatal(err)
	}
	run, ok := o.(op.Run)
	if !ok {
		t.Fatalf("the last step is %T, want a RUN", o)
	}
	return run
}

// argsView returns the arguments of an outline as NAME=VALUE@LINE.
func argsView(o *Outline) string {
	var list []string
	for _, a := range o.Args {
		list = append(list, fmt.Sprintf("%s=%s@%d", a.Name, a.Value, a.Ranges[0].First))
	}
	return strings.Join(list, " ")
}
