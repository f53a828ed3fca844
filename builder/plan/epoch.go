package plan

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
)

const epochName = "SOURCE_DATE_EPOCH"

// LastEpoch is the last second of the year 9999, the latest time that an image can have.
const LastEpoch = 253402300799

// The time before which no image can be made is the first second of the year 0.
const firstEpoch = -62167219200

// EpochSource is the source of a SOURCE_DATE_EPOCH that is not a number: a
// context, or a remote file or repository. One of its fields is set.
type EpochSource struct {
	Context string // "context" is the main context, other names are keys of [Input].Named
	Remote  *Remote
}

// Remote is the source of an ADD that has one remote source.
type Remote struct {
	URL        string
	Checksum   string
	KeepGitDir bool
}

// epochReader determines SOURCE_DATE_EPOCH.
type epochReader struct{ *planner }

// read returns the epoch, or nil if there is none. It takes the option, a build
// argument, or the default of an ARG before the first FROM, in this order, and
// sets the argument to the number.
func (r *epochReader) read(ctx context.Context) (*int64, error) {
	text, ok := r.args[epochName]
	if !ok {
		text, ok = r.globals.Get(epochName)
		ok = ok && text != ""
	}
	epoch := r.in.Epoch
	if epoch == nil && !ok {
		return nil, nil
	}
	if epoch == nil && text != "" {
		var err error
		if epoch, err = r.parse(ctx, text); err != nil {
			return nil, err
		}
	}
	if epoch == nil {
		delete(r.args, epochName)
		r.globals.unset(epochName)
		return nil, nil
	}
	pinned := strconv.FormatInt(*epoch, 10)
	if _, ok := r.args[epochName]; ok {
		r.args[epochName] = pinned
	}
	if _, ok := r.globals.Get(epochName); ok {
		r.globals.set(epochName, pinned)
	}
	return epoch, nil
}

// parse returns the time that a number or the name of a source stands for, or nil
// if the source has no time.
func (r *epochReader) parse(ctx context.Context, text string) (*int64, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		if n < firstEpoch || n > LastEpoch {
			return nil, fmt.Errorf("%s=%s: want seconds since 1970, at most %d (in the year 9999)", epochName, text, LastEpoch)
		}
		return &n, nil
	}
	src, at, err := r.source(text)
	if err == nil && r.in.EpochOf == nil {
		err = errors.New("the time of a source is not available here")
	}
	var epoch *int64
	if err == nil && src != nil {
		epoch, err = r.in.EpochOf(ctx, *src)
	}
	if err == nil {
		return epoch, nil
	}
	err = fmt.Errorf("%s=%s: %w", epochName, text, err)
	if at == nil {
		return nil, err
	}
	return nil, r.file.At(err, at.Ranges...)
}

// source resolves the name of a source: the context, a --build-context, or a
// stage that consists of one ADD from the network. It is nil if the source has no
// time. at is the FROM line of the stage.
func (r *epochReader) source(name string) (src *EpochSource, at *dockerfile.Meta, err error) {
	if name == "context" {
		return &EpochSource{Context: name}, nil, nil
	}
	if r := r.named(name, nil); r != nil {
		if r.Image != "" {
			return nil, nil, nil
		}
		return &EpochSource{Context: r.name}, nil, nil
	}
	for i := range r.file.Stages {
		s := &r.file.Stages[i]
		if strings.EqualFold(s.As, name) {
			remote, err := r.stage(s)
			return &EpochSource{Remote: remote}, &s.Meta, err
		}
	}
	return nil, nil, errors.New("want seconds since 1970, the word context, the name of a --build-context, or the name of a stage that consists of one ADD from the network")
}

var errEpochStage = errors.New("the stage must be FROM scratch and one ADD of a URL or a git repository")

func (r *epochReader) stage(s *dockerfile.Stage) (*Remote, error) {
	vars := r.globals.clone()
	vars.unset(epochName)
	base, err := r.lex.Word(s.Base, &vars)
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
			if err := r.arg(in, &vars); err != nil {
				return nil, err
			}
		case *dockerfile.Add:
			if found != nil {
				return nil, errEpochStage
			}
			if found, err = r.add(in, &vars); err != nil {
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

func (r *epochReader) arg(in *dockerfile.Arg, vars *env) error {
	for _, kv := range in.Args {
		value, ok := r.args[kv.Key]
		if !ok && kv.Value == nil {
			continue
		}
		if !ok {
			w, err := r.lex.Word(*kv.Value, vars)
			if err != nil {
				return err
			}
			value = w.Text
		}
		vars.set(kv.Key, value)
	}
	return nil
}

func (r *epochReader) add(in *dockerfile.Add, vars *env) (*Remote, error) {
	if len(in.Sources) != 1 || len(in.Inline) > 0 {
		return nil, errEpochStage
	}
	src, err := r.lex.Word(in.Sources[0], vars)
	if err != nil {
		return nil, err
	}
	sum, err := r.lex.Word(in.Checksum, vars)
	if err != nil {
		return nil, err
	}
	if !isURL(src.Text) {
		return nil, errEpochStage
	}
	return &Remote{URL: src.Text, Checksum: sum.Text, KeepGitDir: in.KeepGitDir != nil && *in.KeepGitDir}, nil
}
