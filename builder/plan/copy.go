package plan

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan/op"
	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/builder/source"
)

// copying holds the parts of an ADD or COPY that a plan needs.
type copying struct {
	dockerfile.Files
	word       string // ADD or COPY
	from       *stage // nil: the main context
	parents    bool
	unpack     *bool // of ADD --unpack; nil: not written
	checksum   string
	keepGitDir *bool
}

func (d *dispatcher) addFiles(in *dockerfile.Add) error {
	if in.Checksum != "" && len(in.Sources) != 1 {
		return errors.New("checksum can't be specified for multiple sources")
	}
	cp := copying{Files: in.Files, word: "ADD", unpack: in.Unpack, checksum: in.Checksum, keepGitDir: in.KeepGitDir}
	return d.files(cp)
}

func (d *dispatcher) copyFiles(in *dockerfile.Copy) error {
	if d.command.from != nil && !d.command.from.done {
		return fmt.Errorf("cannot copy from stage %q, it needs to be defined before current stage %q", in.From, d.stage.name)
	}
	return d.files(copying{Files: in.Files, word: "COPY", from: d.command.from, parents: in.Parents})
}

// files plans an ADD or COPY.
func (d *dispatcher) files(cp copying) error {
	o, use, err := d.copyOp(cp)
	if err != nil {
		return err
	}
	below := d.stage.root
	link := cp.Link && cp.Chmod == "" // with --chmod, BuildKit ignores --link
	if link {
		below = d.scratch
	}
	if len(cp.Sources) > 0 {
		d.lintIgnored(cp)
	}
	step, base := op.NewStep(o, use.inputs(below)...), d.stage.root
	name := d.stepName(d.stage, redacted(d.command.Instruction, d.shown(d.command.Info().Source, false, &d.stage.env)), d.command.onbuild)
	d.announceRemotes(step.In, name)
	d.addNamed(step, name, redacted(d.command.Instruction, cp.history()))
	if link && base != d.scratch {
		d.stage.root = op.NewStep(op.Stack{}, solve.Input{Step: base}, solve.Input{Step: step})
	}
	return nil
}

// source returns the step to copy from. An image is listed as a step of its own
// when it is first used.
func (p *planner) source(from *stage) *solve.Step {
	if from != nil {
		p.announce(from)
		return from.root
	}
	return p.context("")
}

func (d *dispatcher) copyOp(cp copying) (o op.Copy, use selecting, err error) {
	if cp.Link && byName(cp.Chown) {
		return o, use, fmt.Errorf("--chown=%s: user and group names can't be resolved when used with --link, use numeric uid[:gid] instead", cp.Chown)
	}
	octal := false
	if cp.Chmod != "" {
		mode, err := op.ParseMode(cp.Chmod)
		if err != nil {
			return o, use, err
		}
		octal = mode.Octal()
	}
	o = op.Copy{Chown: cp.Chown, Chmod: cp.Chmod, Exclude: cp.Exclude, Epoch: d.epoch}
	o.Dest, o.DestDir = destination(d.stage.workdir(), cp.Dest)
	use.like = op.Selection{Exclude: cp.Exclude, AnyOwner: cp.Chown != "", AnyMode: octal, Epoch: d.epoch}
	for _, src := range cp.Sources {
		step, source, err := d.remote(&cp, src)
		if err != nil {
			return o, use, err
		}
		if step == nil {
			step, source = d.source(cp.from), cp.source(src)
			if source.Required && source.Include == "" {
				return o, use, emptyParents(src)
			}
		}
		source.Input = use.add(step, source)
		o.Sources = append(o.Sources, source)
	}
	for _, h := range cp.Inline {
		if err := checkInline(h); err != nil {
			return o, use, err
		}
		o.Sources = append(o.Sources, op.CopySource{Name: h.Name, Data: h.Data})
	}
	return o, use, nil
}

// source returns the copy source for a path.
func (cp *copying) source(src string) op.CopySource {
	if !cp.parents {
		unpack := cp.word == "ADD" && (cp.unpack == nil || *cp.unpack)
		return op.CopySource{Path: rooted(src), Unpack: unpack}
	}
	pivot, include, found := strings.Cut(src, "/./")
	if !found {
		pivot, include = "/", src
	}
	required := !source.HasWildcard(pivot) && !source.HasWildcard(include)
	return op.CopySource{
		Path: rooted(pivot), Parents: true,
		Include: strings.TrimPrefix(rooted(include), "/"), Required: required,
	}
}

// emptyParents returns the error for a source of --parents that is only a place to start.
func emptyParents(src string) error {
	all := "**"
	if pivot, _, found := strings.Cut(src, "/./"); found {
		all = pivot + "/./**"
	}
	return fmt.Errorf("--parents: %q names no file or directory: write %q to copy everything there", src, all)
}

// history returns the text for the image's history.
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

func (d *dispatcher) lintIgnored(cp copying) {
	if d.in.Ignored == nil || cp.from != nil {
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
		if src = path.Clean(src); d.in.Ignored(src) {
			d.lint.IgnoredCopy(d.command.Info(), command, src)
		}
	}
}

// destination returns the absolute path of dest, and reports whether it was
// written as a directory.
func destination(workdir, dest string) (string, bool) {
	dir := dest == "" || dest == "." || strings.HasSuffix(dest, "/") || strings.HasSuffix(dest, "/.")
	if !path.IsAbs(dest) {
		dest = workdir + "/" + dest
	}
	return path.Clean(dest), dir
}

// rooted returns p as an absolute, clean path. ".." does not leave "/".
func rooted(p string) string { return path.Clean("/" + p) }

// byName reports whether a --chown has names, which need a passwd or group file.
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

// checkInline returns an error if a heredoc's name is not a file name, or if the
// heredoc cannot be encoded in a key.
func checkInline(h dockerfile.Heredoc) error {
	switch {
	case h.Name == "." || h.Name == ".." || strings.Contains(h.Name, "/"):
		return fmt.Errorf("heredoc <<%s: not a file name", h.Name)
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
