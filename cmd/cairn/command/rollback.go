package command

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/cairn-build/cairn/layer"
)

// rollbackCommand is a run of cairn rollback.
type rollbackCommand struct {
	*Program
	registries         registryFlags
	to                 string
	local, yes, dryRun bool
	format             string
}

func newRollback(p *Program) *cobra.Command {
	r := &rollbackCommand{Program: p}
	c := &cobra.Command{
		Use:   "rollback [flags] NAME[:TAG]...",
		Short: "Set tags back to earlier images",
		Long: `Rollback sets tags to an image that they had before, by default the last one. If a
name begins with the host of a registry, the tag in that registry is set, and otherwise
that of the store. No data is transferred but the manifest. A rollback is an entry in
the history too, so that a second one takes the first back. Several tags are all looked
up before the first is set.

A registry knows the earlier images of a tag only from pushes with --history or
$CAIRN_HISTORY; an image that it still has can be specified by its digest in any case.
Clusters are not notified: those that refer to a tag use it at their next pull.`,
		Example: `  cairn rollback registry.example/me/app:prod
  cairn rollback registry.example/me/app:prod --to 2
  cairn rollback registry.example/me/app:prod --to 2026-11-29T12:00 --yes
  cairn rollback app --to -36h`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("NAME is missing: want NAME[:TAG]")
			}
			for _, a := range args {
				if err := checkReferenceArg(a); err != nil {
					return err
				}
			}
			return nil
		},
		ValidArgsFunction: p.completeImages,
	}
	c.RunE = p.action(r.run)
	f := c.Flags()
	parsedFlag(f, "to", "", "N|DIGEST|TIME", "The image to set: its number in cairn history --tag, its digest, or the one of a time such as 2026-11-29T12:00 or -36h (default 1)", func(s string) error {
		r.to = s
		_, err := parseTagImage(s, time.Now())
		return err
	})
	f.BoolVar(&r.local, "local", false, "Set the tag of the store even if the name begins with a registry")
	f.BoolVarP(&r.yes, "yes", "y", false, "Do not prompt for confirmation")
	f.BoolVar(&r.dryRun, "dry-run", false, "Only show the change")
	f.StringVar(&r.format, "format", "", "`FORMAT` of the output: json, or a Go template for each tag")
	r.registries.flags(f)
	r.registries.historyFlag(f)
	return c
}

// tagImage selects an image of a tag's history.
type tagImage struct {
	number int          // if digest and time are not set
	digest layer.Digest // or the beginning of one
	time   time.Time
}

// timeLayouts are the forms of times in --to, in the local time zone.
var timeLayouts = []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02"}

// parseTagImage parses a value of --to.
func parseTagImage(s string, now time.Time) (tagImage, error) {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 && len(s) <= 3 {
		return tagImage{number: n}, nil
	}
	if hex := strings.TrimPrefix(s, "sha256:"); len(hex) >= 6 && len(hex) <= 64 && strings.Trim(hex, "0123456789abcdef") == "" {
		return tagImage{digest: layer.Digest("sha256:" + hex)}, nil
	}
	if age, err := time.ParseDuration(s); err == nil && age < 0 {
		return tagImage{time: now.Add(age)}, nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return tagImage{time: t}, nil
		}
	}
	return tagImage{}, errors.New("want a number of cairn history --tag, a digest, a time such as 2026-11-29T12:00, or an age such as -36h")
}

// find returns the image that is selected of a history.
func (i tagImage) find(name string, rows []tagRow) (tagRow, error) {
	switch {
	case i.digest != "":
		var found *tagRow
		for _, r := range rows {
			if strings.HasPrefix(string(r.Digest), string(i.digest)) {
				if found != nil && found.Digest != r.Digest {
					return tagRow{}, fmt.Errorf("%s: several images have a digest that begins with %s: specify more of it", name, i.digest)
				}
				found = &r
			}
		}
		if found != nil {
			return *found, nil
		}
		if i.digest.Validate() != nil {
			return tagRow{}, fmt.Errorf("%s: no image in its history has a digest that begins with %s", name, i.digest)
		}
		return tagRow{Digest: i.digest, Number: -1}, nil
	case !i.time.IsZero():
		for _, r := range rows {
			if !r.Time.IsZero() && !r.Time.After(i.time) {
				return r, nil
			}
		}
		return tagRow{}, fmt.Errorf("%s: its image at %s is not known: cairn history --tag %s lists those that are", name, i.time.Local().Format("2006-01-02 15:04:05"), name)
	}
	for _, r := range rows {
		if r.Number == i.number {
			return r, nil
		}
	}
	if len(rows) == 1 && rows[0].Number == 0 {
		return tagRow{}, fmt.Errorf("%s: no earlier image is known: pushes with --history, or $CAIRN_HISTORY, record them; --to DIGEST sets the tag to an image that is still there", name)
	}
	return tagRow{}, fmt.Errorf("%s: there is no image number %d: cairn history --tag %s lists the %d that are known", name, i.number, name, len(rows))
}

// rollback is the change of one tag. Its fields are those of --format.
type rollback struct {
	Name    string       `json:"name"`
	From    layer.Digest `json:"from,omitempty"` // "": the tag did not exist
	To      layer.Digest `json:"to"`
	Changed bool         `json:"changed"`

	tag      tagHistory
	from, to tagRow
}

func (r *rollbackCommand) run(ctx context.Context, refs []string) error {
	want := tagImage{number: 1}
	if r.to != "" {
		var err error
		if want, err = parseTagImage(r.to, time.Now()); err != nil {
			return err
		}
	}
	if !r.yes && !r.dryRun && !term.IsTerminal(int(r.Stdin.Fd())) {
		return usagef("standard input is not a terminal to prompt on: add --yes")
	}
	return r.withRegistries(r.registries, quietMode(true), func(env *environment) error {
		var all []*rollback
		for _, ref := range refs {
			one, err := r.plan(ctx, env, ref, want)
			if err != nil {
				return cause(ctx, err)
			}
			all = append(all, one)
		}
		if ok, err := r.confirm(ctx, all); !ok || err != nil {
			return err
		}
		err := r.apply(ctx, all)
		if r.format != "" {
			return errors.Join(err, writeFormat(r.Stdout, r.format, all))
		}
		return errors.Join(err, r.print(all))
	})
}

// plan looks up the change of a tag.
func (r *rollbackCommand) plan(ctx context.Context, env *environment, ref string, want tagImage) (*rollback, error) {
	t, err := env.tagHistory(ref, r.local, true)
	if err != nil {
		return nil, err
	}
	rows, err := t.rows(ctx)
	if err != nil {
		return nil, err
	}
	to, err := want.find(t.name(), rows)
	if err != nil {
		return nil, err
	}
	if to.Gone {
		return nil, fmt.Errorf("%s: the image %s is gone; %s", t.name(), to.Digest, left(rows))
	}
	one := &rollback{Name: t.name(), To: to.Digest, tag: t, to: to}
	if rows[0].Number == 0 {
		one.from, one.From = rows[0], rows[0].Digest
	}
	return one, nil
}

// left lists the images that are still there, as a part of an error.
func left(rows []tagRow) string {
	var list []string
	for _, r := range rows {
		if r.Number > 0 && !r.Gone {
			list = append(list, strconv.Itoa(r.Number))
		}
	}
	if list == nil {
		return "no other earlier image is left"
	}
	return "left are the numbers " + strings.Join(list, ", ") + " of cairn history --tag"
}

// confirm prompts on the terminal before tags are changed.
func (r *rollbackCommand) confirm(ctx context.Context, all []*rollback) (bool, error) {
	changes := 0
	for _, one := range all {
		if one.From != one.To {
			changes++
		}
	}
	if r.yes || r.dryRun || changes == 0 {
		return true, nil
	}
	for _, one := range all {
		fmt.Fprint(r.Stderr, one.text("change"))
	}
	return r.Program.confirm(ctx, "change")
}

// apply sets the tags. It goes on after an error.
func (r *rollbackCommand) apply(ctx context.Context, all []*rollback) error {
	var errs []error
	for _, one := range all {
		if r.dryRun || one.From == one.To {
			continue
		}
		note := "rolled back"
		if one.to.Number > 0 {
			note += " by " + strconv.Itoa(one.to.Number)
		}
		if err := one.tag.set(ctx, one.To, note); err != nil {
			errs = append(errs, fmt.Errorf("rolling back %s: %w", one.Name, cause(ctx, err)))
			continue
		}
		one.Changed = true
	}
	return errors.Join(errs...)
}

// text describes a change in lines; done is the verb.
func (b *rollback) text(done string) string {
	from := "no image"
	if b.From != "" {
		from = describeRow(b.from)
	}
	return fmt.Sprintf("%s %s\n  from %s\n  to   %s\n", done, b.Name, from, describeRow(b.to))
}

func describeRow(r tagRow) string {
	if r.Time.IsZero() {
		return string(r.Digest)
	}
	return fmt.Sprintf("%s (%s)", r.Digest, r.Time.Local().Format("2006-01-02 15:04:05"))
}

// print prints the changes.
func (r *rollbackCommand) print(all []*rollback) error {
	remote := false
	for _, one := range all {
		text := ""
		switch {
		case one.From == one.To:
			text = fmt.Sprintf("%s is %s already\n", one.Name, one.To)
		case r.dryRun:
			text = one.text("would set")
		case one.Changed:
			text = one.text("set")
			remote = remote || one.tag.remote()
		}
		if _, err := fmt.Fprint(r.Stdout, text); err != nil {
			return err
		}
	}
	if remote {
		fmt.Fprintln(r.Stderr, "machines that have pulled the tag keep their image until they pull again, such as Deployments with imagePullPolicy: IfNotPresent")
	}
	return nil
}
