package plan

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
	"github.com/cairn-build/cairn/builder/source/git"
	"github.com/cairn-build/cairn/builder/source/httpsource"
	"github.com/cairn-build/cairn/layer"
	"github.com/opencontainers/go-digest"
)

// remote returns the step and the copy source for a URL, or nil if src is a path.
func (d *dispatcher) remote(cp *copying, src string) (*solve.Step, op.CopySource, error) {
	ref, err := git.Parse(src)
	switch {
	case err == nil && !ref.Local:
		return d.remoteGit(cp, ref)
	case err != nil && !errors.Is(err, git.ErrNotGit):
		return nil, op.CopySource{}, err
	case webURL(src):
		return d.remoteHTTP(cp, src)
	}
	if cp.checksum != "" {
		return nil, op.CopySource{}, errors.New("checksum requires HTTP(S) or Git sources")
	}
	return nil, op.CopySource{}, nil
}

func webURL(src string) bool {
	return strings.HasPrefix(src, "http://") || strings.HasPrefix(src, "https://")
}

// isURL reports whether a source of ADD is remote: a URL or a git repository.
func isURL(src string) bool {
	ref, err := git.Parse(src)
	return webURL(src) || err == nil && !ref.Local
}

func (d *dispatcher) remoteGit(cp *copying, ref *git.Ref) (*solve.Step, op.CopySource, error) {
	if cp.word != "ADD" {
		return nil, op.CopySource{}, errors.New("source can't be a git ref for COPY")
	}
	keep := cp.keepGitDir
	if keep != nil && ref.KeepGitDir != nil && *keep != *ref.KeepGitDir {
		return nil, op.CopySource{}, errors.New("inconsistent keep-git-dir configuration")
	}
	if cp.checksum != "" {
		if err := ref.Expect(cp.checksum); err != nil {
			return nil, op.CopySource{}, err
		}
	}
	return d.remoteStep(op.NewGit(ref.Request(keep != nil && *keep))), op.CopySource{Path: "/", Literal: true}, nil
}

func (d *dispatcher) remoteHTTP(cp *copying, src string) (*solve.Step, op.CopySource, error) {
	if cp.word != "ADD" {
		return nil, op.CopySource{}, errors.New("source can't be a URL for COPY")
	}
	want := layer.Digest(cp.checksum)
	if want != "" {
		if err := want.Validate(); err != nil {
			err = fmt.Errorf("--checksum: %w", err)
			if _, other := digest.Parse(cp.checksum); other != nil {
				err = dockerfile.InBuildKit(err, other.Error())
			}
			return nil, op.CopySource{}, err
		}
	}
	if !validText(src) {
		return nil, op.CopySource{}, fmt.Errorf("URL %q: not valid UTF-8", source.Redact(src))
	}
	unpack := cp.unpack != nil && *cp.unpack
	return d.remoteStep(op.NewHTTP(src, want)), op.CopySource{Path: "/" + httpsource.FileName(src), Literal: true, Unpack: unpack}, nil
}

// selecting collects the inputs of a copy and the selection of each, in the order
// of first use.
type selecting struct {
	like  op.Selection
	steps []*solve.Step
	sels  []op.Selection
}

// add records that src is copied from step, and returns the number of the input.
func (s *selecting) add(step *solve.Step, src op.CopySource) int {
	for i, have := range s.steps {
		if have == step {
			s.sels[i].Paths = append(s.sels[i].Paths, src.SelPath())
			return i + 1
		}
	}
	sel := s.like
	sel.Paths = []op.SelPath{src.SelPath()}
	s.steps, s.sels = append(s.steps, step), append(s.sels, sel)
	return len(s.steps)
}

// inputs returns the inputs of the copy's step, the first of which is below.
func (s *selecting) inputs(below *solve.Step) []solve.Input {
	ins := []solve.Input{{Step: below}}
	for i, step := range s.steps {
		ins = append(ins, solve.Input{Step: step, Sel: s.sels[i].Encode()})
	}
	return ins
}

// announceRemotes lists the downloads for an ADD under the name of the ADD, as
// BuildKit does.
func (d *dispatcher) announceRemotes(ins []solve.Input, name string) {
	for _, in := range ins[1:] {
		if in.Step.Extra == "" || d.shownRemote[in.Step] {
			continue
		}
		if !op.Fetched(in.Step) {
			continue
		}
		d.shownRemote[in.Step] = true
		d.steps = append(d.steps, &StepInfo{Step: in.Step, Name: name, Stage: d.stage.name, Ranges: d.command.Info().Ranges, History: -1})
	}
}

// redacted returns text with the credentials in URLs masked, for an ADD.
func redacted(in dockerfile.Instruction, text string) string {
	if _, ok := in.(*dockerfile.Add); ok {
		return source.Redact(text)
	}
	return text
}
