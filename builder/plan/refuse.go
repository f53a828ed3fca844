package plan

import (
	"fmt"
	"slices"

	"github.com/cairn-build/cairn/builder/dockerfile"
)

// refusal is a feature of the language that Cairn parses but does not support.
type refusal struct {
	reason string
	in     func(dockerfile.Instruction) bool
}

func refusals() []refusal {
	return []refusal{
		{"RUN --device: devices are injected by a container runtime (CDI), and cairn has none", runFlag("device")},
	}
}

// refuse returns an error for an instruction with an unsupported feature.
func refuse(i dockerfile.Instruction) error {
	for _, r := range refusals() {
		if r.in(i) {
			return notYet("%s", r.reason)
		}
	}
	return nil
}

func notYet(format string, args ...any) error {
	return fmt.Errorf("not supported yet by cairn: "+format, args...)
}

func runFlag(name string) func(dockerfile.Instruction) bool {
	return func(i dockerfile.Instruction) bool {
		run, ok := i.(*dockerfile.Run)
		return ok && slices.Contains(run.Flags, name)
	}
}
