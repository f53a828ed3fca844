package report

import (
	"cmp"
	"slices"
	"strings"

	"github.com/cairn-build/cairn/builder/source"
)

// leastSecret is the length from which the value of a build argument is replaced in texts:
// shorter ones are parts of ordinary words.
const leastSecret = 6

// Clean removes users and passwords of URLs from all texts but the output of steps. Unless
// args is set, it also removes the values of build arguments, and replaces them in texts by
// $NAME.
func (b *Build) Clean(args bool) {
	var values []Arg
	for _, t := range b.Targets {
		for _, a := range t.Args {
			if !args && a.Value != nil && len(*a.Value) >= leastSecret {
				values = append(values, a)
			}
		}
	}
	slices.SortStableFunc(values, func(x, y Arg) int { return cmp.Compare(len(*y.Value), len(*x.Value)) })
	var pairs []string
	for _, a := range values {
		pairs = append(pairs, *a.Value, "$"+a.Name)
	}
	without := strings.NewReplacer(pairs...)
	b.eachText(func(s *string) {
		*s = source.Redact(without.Replace(*s))
	})
	for i := range b.Targets {
		t := &b.Targets[i]
		t.Args = slices.Clone(t.Args)
		for k := range t.Args {
			if !args {
				t.Args[k].Value = nil
			} else if v := t.Args[k].Value; v != nil {
				clean := source.Redact(*v)
				t.Args[k].Value = &clean
			}
		}
	}
}

// eachText calls f for the texts of a build that may have expanded variables or URLs.
func (b *Build) eachText(f func(*string)) {
	for i := range b.Steps {
		s := &b.Steps[i]
		f(&s.Name)
		f(&s.Error)
		for k := range s.Parts {
			f(&s.Parts[k].Name)
		}
	}
	if fail := b.Failure; fail != nil {
		f(&fail.Name)
		f(&fail.Message)
		f(&fail.Hint)
		for i := range fail.Lines {
			fail.Lines[i].Text = source.Redact(fail.Lines[i].Text)
		}
	}
	for i := range b.Inputs {
		f(&b.Inputs[i].Name)
	}
	for i := range b.Warnings {
		f(&b.Warnings[i].Text)
	}
	for i := range b.Targets {
		t := &b.Targets[i]
		f(&t.Context)
		f(&t.Error)
		for k := range t.Images {
			for n := range t.Images[k].Layers {
				f(&t.Images[k].Layers[n].Step)
			}
		}
	}
}
