package builder

import (
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/worker"
)

// place describes a step to people.
func place(p *planned, info *plan.StepInfo) worker.Place {
	out := worker.Place{File: p.inputs.File.Name, Stage: info.Stage, Text: info.Name, Shell: info.Shell}
	if len(info.Ranges) > 0 {
		out.Line = info.Ranges[0].First
	}
	return out
}
