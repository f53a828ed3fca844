package plan

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/solve"
)

// copying is an ADD or a COPY.
type copying struct {
	dockerfile.Files
	word       string // ADD or COPY
	from       *stage // nil: the context
	parents    bool
	unpack     *bool // as written
	checksum   string
	keepGitDir *bool
}

func (p *planner) addFiles(s *stage, c command, in *dockerfile.Add, lint *dockerfile.Lint) error {
	if in.Checksum != "" && len(in.Sources) != 1 {
		return errors.New("checksum can't be specified for multiple sources")
	}
	cp := copying{Files: in.Files, word: "ADD", unpack: in.Unpack, checksum: in.Checksum, keepGitDir: in.KeepGitDir}
	return p.files(s, c, cp, lint)
}

func (p *planner) copy(s *stage, c command, in *dockerfile.Copy, lint *dockerfile.Lint) error {
	if c.from != nil && !c.from.done {
		return fmt.Errorf("cannot copy from stage %q, it needs to be defined before current stage %q", in.From, s.name)
	}
	return p.files(s, c, copying{Files: in.Files, word: "COPY", from: c.from, parents: in.Parents}, lint)
}

// files makes the step of an ADD or COPY.
func (p *planner) files(s *stage, c command, cp copying, lint *dockerfile.Lint) error {
	op, use, err := p.copyOp(s, cp)
	if err != nil {
		return err
	}
	below := s.root
	link := cp.Link && cp.Chmod == "" // with --chmod, BuildKit takes it for a plain copy
	if link {
		below = p.scratch
	}
	if len(cp.Sources) > 0 {
		p.lintIgnored(c.Info(), cp, lint)
	}
	step, base := &solve.Step{Op: encode("copy", op), In: use.inputs(below)}, s.root
	name := p.stepName(s, redacted(c.Instruction, p.shown(c.Info().Source, false, &s.env)), c.onbuild)
	p.announceRemotes(s, c, step.In, name)
	p.addNamed(s, c, step, name, redacted(c.Instruction, cp.history()))
	if link && base != p.scratch {
		s.root = &solve.Step{Op: encode("stack", Stack{}), In: []solve.Input{{Step: base}, {Step: step}}}
	}
	return nil
}

// source is the step of what is copied from. An image is shown as a step of
// its own the first time.
func (p *planner) source(from *stage) *solve.Step {
	if from != nil {
		p.announce(from)
		return from.root
	}
	return p.context("")
}

func (p *planner) copyOp(s *stage, cp copying) (op Copy, use selecting, err error) {
	if cp.Link && byName(cp.Chown) {
		return op, use, fmt.Errorf("--chown=%s: user and group names can't be resolved when used with --link, use numeric uid[:gid] instead", cp.Chown)
	}
	octal := false
	if cp.Chmod != "" {
		mode, err := ParseMode(cp.Chmod)
		if err != nil {
			return op, use, err
		}
		octal = mode.Octal()
	}
	op = Copy{Chown: cp.Chown, Chmod: cp.Chmod, Exclude: cp.Exclude, Epoch: p.epoch}
	op.Dest, op.DestDir = destination(s.workdir(), cp.Dest)
	use.like = Selection{Exclude: cp.Exclude, AnyOwner: cp.Chown != "", AnyMode: octal, Epoch: p.epoch}
	for _, src := range cp.Sources {
		step, source, err := p.remote(&cp, src)
		if err != nil {
			return op, use, err
		}
		if step == nil {
			step, source = p.source(cp.from), cp.source(src)
		}
		source.Input = use.add(step, source)
		op.Sources = append(op.Sources, source)
	}
	for _, h := range cp.Inline {
		if err := checkInline(h); err != nil {
			return op, use, err
		}
		op.Sources = append(op.Sources, CopySource{Name: h.Name, Data: h.Data})
	}
	return op, use, nil
}

// source is a path as a source.
func (cp *copying) source(src string) CopySource {
	if !cp.parents {
		unpack := cp.word == "ADD" && (cp.unpack == nil || *cp.unpack)
		return CopySource{Path: rooted(src), Unpack: unpack}
	}
	pivot, include, found := strings.Cut(src, "/./")
	if !found {
		pivot, include = "/", src
	}
	required := !hasWildcard(pivot) && !hasWildcard(include)
	return CopySource{
		Path: rooted(pivot), Parents: true,
		Include: strings.TrimPrefix(rooted(include), "/"), Required: required,
	}
}

// history is what the image's history says of it.
func (cp *copying) history() string {
	var b strings.Builder
	b.WriteString(cp.word)
	if cp.parents {
		b.WriteString(" --parents")
	}
	if cp.Chown != "" {
		b.WriteString(" --chown=" + cp.Chown)
	}
	if cp.Chmod != "" {
		b.WriteString(" --chmod=" + cp.Chmod)
	}
	for _, src := range cp.Sources {
		b.WriteString(" " + src)
	}
	for _, h := range cp.Inline {
		b.WriteString(" <<" + h.Name)
	}
	return b.String() + " " + cp.Dest + " # buildkit"
}

func (p *planner) lintIgnored(m *dockerfile.Meta, cp copying, lint *dockerfile.Lint) {
	if p.in.Ignored == nil || cp.from != nil {
		return
	}
	command := "Copy"
	if cp.word == "ADD" {
		command = "Add"
	}
	for _, src := range cp.Sources {
		if isURL(src) {
			continue
		}
		if src = path.Clean(src); p.in.Ignored(src) {
			lint.IgnoredCopy(m, command, src)
		}
	}
}

// destination gives the absolute path, and whether it was written as a
// directory.
func destination(workdir, dest string) (string, bool) {
	dir := dest == "" || dest == "." || strings.HasSuffix(dest, "/") || strings.HasSuffix(dest, "/.")
	if !path.IsAbs(dest) {
		dest = workdir + "/" + dest
	}
	return path.Clean(dest), dir
}

// rooted makes a path absolute and clean; nothing leads out of "/".
func rooted(p string) string { return path.Clean("/" + p) }

func hasWildcard(name string) bool {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '*', '?', '[':
			return true
		case '\\':
			i++
		}
	}
	return false
}

// byName tells whether a --chown needs a passwd or group file.
func byName(chown string) bool {
	if chown == "" {
		return false
	}
	user, group, _ := strings.Cut(chown, ":")
	return !numeric(user) || group != "" && !numeric(group)
}

func numeric(id string) bool {
	_, err := strconv.ParseInt(id, 10, 32)
	return id == "root" || err == nil
}

// checkInline refuses what can't be the name of one file, or can't be kept
// unchanged in a key.
func checkInline(h dockerfile.Heredoc) error {
	switch {
	case h.Name == "." || h.Name == ".." || strings.Contains(h.Name, "/"):
		return fmt.Errorf("heredoc <<%s: its name is not a file's", h.Name)
	case !validText(h.Name, h.Data):
		return fmt.Errorf("heredoc <<%s: not valid UTF-8", h.Name)
	}
	return nil
}

func validText(texts ...string) bool {
	for _, t := range texts {
		if !utf8.ValidString(t) {
			return false
		}
	}
	return true
}
