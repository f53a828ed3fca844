package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"

	"github.com/cairn-build/cairn/builder/progress/termtext"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/reference"
	"github.com/cairn-build/cairn/registry/taghistory"
)

// tagRow is an image that a tag refers or referred to. Its fields are those of --format.
type tagRow struct {
	Number int          `json:"number"` // 0 is the present image
	Time   time.Time    `json:"time,omitzero"`
	Digest layer.Digest `json:"digest"`
	Size   int64        `json:"size,omitempty"` // of the compressed layers
	By     string       `json:"by,omitempty"`
	Note   string       `json:"note,omitempty"`
	Gone   bool         `json:"gone,omitempty"`
}

// tagHistory is the history of one tag, in the store or in a registry.
type tagHistory interface {
	// rows returns the present image, unless the tag does not exist, and the earlier
	// ones, the newest first.
	rows(ctx context.Context) ([]tagRow, error)
	// set sets the tag to an image.
	set(ctx context.Context, d layer.Digest, note string) error
	name() string // of the tag, in a short form
	remote() bool
}

// tagHistory returns the history of a tag. It is in the registry if the reference names
// one, and in the store otherwise.
func (e *environment) tagHistory(ref string, local, write bool) (tagHistory, error) {
	t, err := reference.Parse(ref)
	if err != nil {
		return nil, &UsageError{err}
	}
	if t.Tag == "" || t.Digest != "" {
		return nil, usagef("%s: a digest always refers to the same image: specify a tag", ref)
	}
	if local || !namesRegistry(ref) {
		return &localTag{e, t.String()}, nil
	}
	m, err := e.Registry.Manifests(ref, write)
	if err != nil {
		return nil, err
	}
	keep := taghistory.DefaultKeep
	if e.History != nil {
		keep = e.History.Keep
	}
	return &remoteTag{ref: t.String(), log: taghistory.New(m, t.Tag, keep)}, nil
}

// namesRegistry reports whether a reference begins with the host of a registry.
func namesRegistry(ref string) bool {
	host, _, ok := strings.Cut(ref, "/")
	return ok && (strings.ContainsAny(host, ".:") || host == "localhost")
}

// localTag is the history of a tag in the store.
type localTag struct {
	env *environment
	ref string
}

func (t *localTag) name() string { return reference.Familiar(t.ref) }
func (t *localTag) remote() bool { return false }

func (t *localTag) rows(context.Context) ([]tagRow, error) {
	var rows []tagRow
	now, err := t.env.Store.Tagged(t.ref)
	switch {
	case err == nil:
		row := newImageRow(now)
		rows = append(rows, tagRow{Time: now.Created, Digest: now.Digest(), Size: row.Size, By: t.env.Store.SetBy(t.ref)})
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	former, err := t.env.Store.History(t.ref)
	if err != nil {
		return nil, err
	}
	for i, f := range former {
		rows = append(rows, tagRow{Number: i + 1, Time: f.Set, Digest: f.Digest, Size: f.Size, By: f.Command, Gone: f.Gone})
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s is not in the store, and was not lately: name the registry for the tag there, such as registry.example/%s", t.name(), t.name())
	}
	return rows, nil
}

func (t *localTag) set(_ context.Context, d layer.Digest, _ string) error {
	err := t.env.Store.Restore(t.ref, d)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the store has no earlier image %s of %s: cairn history --tag %s lists those that it has", d, t.name(), t.name())
	}
	return err
}

// remoteTag is the history of a tag in a registry.
type remoteTag struct {
	ref  string
	log  *taghistory.Log
	kept bool // set by rows: the registry has a history
}

func (t *remoteTag) name() string { return reference.Familiar(t.ref) }
func (t *remoteTag) remote() bool { return true }

func (t *remoteTag) rows(ctx context.Context) ([]tagRow, error) {
	s, err := t.log.State(ctx)
	if err != nil {
		return nil, err
	}
	t.kept = s.Kept
	var rows []tagRow
	if s.Now != nil {
		rows = append(rows, newTagRow(0, *s.Now))
	}
	for i, e := range s.Earlier {
		rows = append(rows, newTagRow(i+1, e))
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: %w in its registry", t.name(), registry.ErrNotFound)
	}
	return rows, nil
}

func newTagRow(n int, e taghistory.Entry) tagRow {
	return tagRow{n, e.Time, e.Digest, e.ImageSize, e.By, e.Note, e.Gone}
}

func (t *remoteTag) set(ctx context.Context, d layer.Digest, note string) error {
	_, err := t.log.Rollback(ctx, d, historyBy(), note, time.Now())
	return err
}

// printTagRows prints the table of a tag's images.
func (h *historyCommand) printTagRows(rows []tagRow) error {
	w := tabwriter.NewWriter(h.Stdout, 0, 8, 3, ' ', 0)
	fmt.Fprintln(w, "N\tWHEN\tDIGEST\tSIZE\tBY\tNOTE")
	for _, r := range rows {
		digest := string(r.Digest)
		if !h.noTrunc {
			digest = digest[:len("sha256:")+12]
		}
		size := "-"
		if r.Size > 0 {
			size = units.HumanSize(float64(r.Size))
			if !h.human {
				size = fmt.Sprint(r.Size)
			}
		}
		note := r.Note
		if r.Number == 0 {
			note = strings.TrimSuffix("now, "+note, ", ")
		}
		if r.Gone {
			note = strings.TrimSuffix("gone, "+note, ", ")
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", r.Number, h.when(r.Time), digest, size, termtext.Safe(r.By), termtext.Safe(note))
	}
	return w.Flush()
}

func (h *historyCommand) when(t time.Time) string {
	switch {
	case t.IsZero():
		return "unknown"
	case h.human:
		return t.Local().Format("2006-01-02 15:04:05")
	}
	return t.UTC().Format(time.RFC3339)
}

// printTag prints the history of a tag.
func (h *historyCommand) printTag(ctx context.Context, ref string) error {
	return h.withRegistries(h.registries, quietMode(true), func(env *environment) error {
		t, err := env.tagHistory(ref, h.local, false)
		if err != nil {
			return err
		}
		rows, err := t.rows(ctx)
		switch {
		case err != nil:
			return cause(ctx, err)
		case h.format != "":
			return writeFormat(h.Stdout, h.format, rows)
		case h.quiet:
			for _, r := range rows {
				if _, err := fmt.Fprintln(h.Stdout, r.Digest); err != nil {
					return err
				}
			}
			return nil
		}
		if r, ok := t.(*remoteTag); ok && !r.kept {
			fmt.Fprintf(h.Stderr, "%s has no history: cairn push --history, or $CAIRN_HISTORY, keeps the images that a push replaces\n", t.name())
		}
		return h.printTagRows(rows)
	})
}
