package plan

import (
	"fmt"
	"slices"

	"github.com/cairn-build/cairn/builder/dockerfile"
)

// refusal is a part of the language that is understood but not built yet.
type refusal struct {
	what string
	in   func(dockerfile.Instruction) bool
}

func refusals() []refusal {
	return []refusal{
		{"RUN --device: devices are injected by a container runtime (CDI), and cairn has none", runFlag("device")},
	}
}

// refuse gives an error for an instruction that asks for what can't be done
// yet.
func refuse(i dockerfile.Instruction) error {
	for _, r := range refusals() {
		if r.in(i) {
			return notYet("%s", r.what)
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
