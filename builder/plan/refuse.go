package plan

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

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
		{"ADD --keep-git-dir", func(i dockerfile.Instruction) bool {
			add, ok := i.(*dockerfile.Add)
			return ok && add.KeepGitDir != nil
		}},
		{"ADD of a git repository", addOf(fromGit)},
		{"ADD of a URL", addOf(fromHTTP)},
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

func addOf(kind sourceKind) func(dockerfile.Instruction) bool {
	return func(i dockerfile.Instruction) bool {
		add, ok := i.(*dockerfile.Add)
		return ok && slices.ContainsFunc(add.Sources, func(s string) bool { return kindOf(s) == kind })
	}
}

// sourceKind is where a source of ADD comes from.
type sourceKind int

const (
	fromTree sourceKind = iota
	fromHTTP
	fromGit
)

var (
	scheme   = regexp.MustCompile(`^[a-zA-Z0-9]+://`)
	scpStyle = regexp.MustCompile(`^[a-zA-Z0-9-_]+@[a-zA-Z0-9-.]+:`)
)

// kindOf tells URLs from paths, as BuildKit does.
func kindOf(src string) sourceKind {
	switch strings.ToLower(scheme.FindString(src)) {
	case "git://", "ssh://":
		return fromGit
	case "http://", "https://":
		if u, err := url.Parse(src); err == nil && strings.HasSuffix(u.Path, ".git") {
			return fromGit
		}
		if strings.HasPrefix(src, "http://") || strings.HasPrefix(src, "https://") {
			return fromHTTP
		}
	case "":
		if scpStyle.MatchString(src) {
			return fromGit
		}
	}
	return fromTree
}
