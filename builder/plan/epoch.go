package plan

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cairn-build/cairn/builder/dockerfile"
)

const epochName = "SOURCE_DATE_EPOCH"

// EpochSource is what an epoch that is no number takes its time from: a context,
// or a file or repository of the network. One of its fields is set.
type EpochSource struct {
	Context string // "context" is the main one, else a key of [Input].Named
	Remote  *Remote
}

// Remote is the one source of an ADD from the network.
type Remote struct {
	URL        string
	Checksum   string
	KeepGitDir bool
}

// readEpoch finds SOURCE_DATE_EPOCH: the option, a build argument, or an ARG
// with a default. From here on it is a number, if it is anything.
func (p *planner) readEpoch(ctx context.Context) error {
	text, ok := p.args[epochName]
	if !ok {
		text, ok = p.globals.Get(epochName)
		ok = ok && text != ""
	}
	p.epoch = p.in.Epoch
	if p.epoch == nil && !ok {
		return nil
	}
	if p.epoch == nil && text != "" {
		var err error
		if p.epoch, err = p.epochOf(ctx, text); err != nil {
			return err
		}
	}
	if p.epoch == nil {
		delete(p.args, epochName)
		p.globals.unset(epochName)
		return nil
	}
	t := time.Unix(*p.epoch, 0).UTC()
	p.created = &t
	pinned := strconv.FormatInt(*p.epoch, 10)
	if _, ok := p.args[epochName]; ok {
		p.args[epochName] = pinned
	}
	if _, ok := p.globals.Get(epochName); ok {
		p.globals.set(epochName, pinned)
	}
	return nil
}

// epochOf gives the time that a number or name stands for; nil for a source
// that has none.
func (p *planner) epochOf(ctx context.Context, text string) (*int64, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return &n, nil
	}
	src, at, err := p.epochSource(text)
	if err == nil && p.in.EpochOf == nil {
		err = errors.New("there is nothing to ask for its time")
	}
	var epoch *int64
	if err == nil && src != nil {
		epoch, err = p.in.EpochOf(ctx, *src)
	}
	if err == nil {
		return epoch, nil
	}
	err = fmt.Errorf("%s=%s: %w", epochName, text, err)
	if at == nil {
		return nil, err
	}
	return nil, p.file.At(err, at.Ranges...)
}

// epochSource finds what a name means: the context, one of --build-context, or
// a stage that is nothing but an ADD from the network. It is nil if that has no
// time. at is the stage.
func (p *planner) epochSource(name string) (src *EpochSource, at *dockerfile.Meta, err error) {
	if name == "context" {
		return &EpochSource{Context: name}, nil, nil
	}
	if r := p.named(name, nil); r != nil {
		if r.Image != "" {
			return nil, nil, nil
		}
		return &EpochSource{Context: r.name}, nil, nil
	}
	for i := range p.file.Stages {
		s := &p.file.Stages[i]
		if strings.EqualFold(s.As, name) {
			remote, err := p.epochStage(s)
			return &EpochSource{Remote: remote}, &s.Meta, err
		}
	}
	return nil, nil, errors.New("want seconds since 1970, the word context, the name of a --build-context, or that of a stage which is an ADD from the network")
}

var errEpochStage = errors.New("the stage must be FROM scratch and one ADD of a URL or a git repository")

func (p *planner) epochStage(s *dockerfile.Stage) (*Remote, error) {
	vars := p.globals.clone()
	vars.unset(epochName)
	base, err := p.lex.Word(s.Base, &vars)
	if err != nil {
		return nil, err
	}
	if base.Text != scratchName {
		return nil, errEpochStage
	}
	var found *Remote
	for _, in := range s.Instructions {
		switch in := in.(type) {
		case *dockerfile.Arg:
			if err := p.epochArg(in, &vars); err != nil {
				return nil, err
			}
		case *dockerfile.Add:
			if found != nil {
				return nil, errEpochStage
			}
			if found, err = p.epochAdd(in, &vars); err != nil {
				return nil, err
			}
		default:
			return nil, errEpochStage
		}
	}
	if found == nil {
		return nil, errEpochStage
	}
	return found, nil
}

func (p *planner) epochArg(in *dockerfile.Arg, vars *env) error {
	for _, kv := range in.Args {
		value, ok := p.args[kv.Key]
		if !ok && kv.Value == nil {
			continue
		}
		if !ok {
			w, err := p.lex.Word(*kv.Value, vars)
			if err != nil {
				return err
			}
			value = w.Text
		}
		vars.set(kv.Key, value)
	}
	return nil
}

func (p *planner) epochAdd(in *dockerfile.Add, vars *env) (*Remote, error) {
	if len(in.Sources) != 1 || len(in.Inline) > 0 {
		return nil, errEpochStage
	}
	src, err := p.lex.Word(in.Sources[0], vars)
	if err != nil {
		return nil, err
	}
	sum, err := p.lex.Word(in.Checksum, vars)
	if err != nil {
		return nil, err
	}
	if !isURL(src.Text) {
		return nil, errEpochStage
	}
	return &Remote{URL: src.Text, Checksum: sum.Text, KeepGitDir: in.KeepGitDir != nil && *in.KeepGitDir}, nil
}
