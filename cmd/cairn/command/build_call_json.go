package command

import (
	"errors"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/plan"
	"github.com/cairn-build/cairn/builder/source"
)

// The answers of --call in JSON have the form of BuildKit's subrequests. The text of
// Dockerfiles is encoded in base64.
type (
	lintJSON struct {
		Warnings []warningJSON   `json:"warnings"`
		Sources  []sourceJSON    `json:"sources"`
		Error    *buildErrorJSON `json:"buildError,omitempty"`
	}
	warningJSON struct {
		Rule        string        `json:"ruleName"`
		Description string        `json:"description,omitempty"`
		URL         string        `json:"url,omitempty"`
		Detail      string        `json:"detail,omitempty"`
		Location    *locationJSON `json:"location,omitempty"`
	}
	sourceJSON struct {
		Filename string `json:"filename,omitempty"`
		Data     []byte `json:"data,omitempty"`
		Language string `json:"language,omitempty"`
	}
	buildErrorJSON struct {
		Message  string       `json:"message"`
		Location locationJSON `json:"location"`
	}
	locationJSON struct {
		Ranges []rangeJSON `json:"ranges,omitempty"` // each has one line
	}
	rangeJSON struct {
		Start lineJSON `json:"start"`
		End   lineJSON `json:"end"`
	}
	lineJSON struct {
		Line int `json:"line,omitempty"`
	}
	outlineJSON struct {
		Name        string      `json:"name,omitempty"`
		Description string      `json:"description,omitempty"`
		Args        []argJSON   `json:"args,omitempty"`
		Secrets     []mountJSON `json:"secrets,omitempty"`
		SSH         []mountJSON `json:"ssh,omitempty"`
		Cache       []cacheJSON `json:"cache,omitempty"`
		Sources     [][]byte    `json:"sources,omitempty"`
	}
	argJSON struct {
		Name        string        `json:"name"`
		Description string        `json:"description,omitempty"`
		Value       string        `json:"value,omitempty"`
		Location    *locationJSON `json:"location,omitempty"`
	}
	mountJSON struct {
		Name     string        `json:"name"`
		Required bool          `json:"required,omitempty"`
		Location *locationJSON `json:"location,omitempty"`
	}
	cacheJSON struct {
		ID       string        `json:"ID"`
		Location *locationJSON `json:"location,omitempty"`
	}
	targetsJSON struct {
		Targets []targetJSON `json:"targets"`
		Sources [][]byte     `json:"sources"`
	}
	targetJSON struct {
		Name        string        `json:"name,omitempty"`
		Default     bool          `json:"default,omitempty"`
		Description string        `json:"description,omitempty"`
		Base        string        `json:"base,omitempty"`
		Platform    string        `json:"platform,omitempty"`
		Location    *locationJSON `json:"location,omitempty"`
	}
)

func locationOf(ranges []dockerfile.Range) *locationJSON {
	out := &locationJSON{}
	for _, r := range ranges {
		for n := r.First; n <= r.Last; n++ {
			out.Ranges = append(out.Ranges, rangeJSON{lineJSON{n}, lineJSON{n}})
		}
	}
	return out
}

func lintOf(c *builder.LintResult) lintJSON {
	out := lintJSON{Sources: []sourceJSON{{c.Name, redacted(c.Text), "Dockerfile"}}}
	for _, w := range c.Warnings {
		out.Warnings = append(out.Warnings, warningJSON{w.Rule, w.Description, w.URL, w.Detail, locationOf(w.Ranges)})
	}
	if c.Err != nil {
		out.Error = &buildErrorJSON{Message: c.Err.Error()}
		var at *dockerfile.Error
		if errors.As(c.Err, &at) {
			out.Error.Message = source.Redact(at.BuildKit())
			out.Error.Location = *locationOf(at.Ranges)
		}
	}
	return out
}

func outlineOf(o *plan.Outline, f *dockerfile.File) outlineJSON {
	out := outlineJSON{Name: o.Name, Description: o.Doc, Sources: [][]byte{redacted(f.Text)}}
	for _, a := range o.Args {
		out.Args = append(out.Args, argJSON{a.Name, a.Doc, a.Value, locationOf(a.Ranges)})
	}
	out.Secrets, out.SSH = mountList(o.Secrets), mountList(o.SSH)
	for _, c := range o.Caches {
		out.Cache = append(out.Cache, cacheJSON{c.ID, locationOf(c.Ranges)})
	}
	return out
}

func mountList(list []plan.OutlineMount) (out []mountJSON) {
	for _, m := range list {
		out = append(out, mountJSON{m.ID, m.Required, locationOf(m.Ranges)})
	}
	return out
}

func targetsOf(f *dockerfile.File) targetsJSON {
	out := targetsJSON{Sources: [][]byte{redacted(f.Text)}}
	for i, s := range f.Stages {
		out.Targets = append(out.Targets, targetJSON{
			Name: s.As, Default: i == len(f.Stages)-1, Description: s.Doc,
			Base: s.Base, Platform: s.Platform, Location: locationOf(s.Ranges),
		})
	}
	return out
}

// redacted returns a Dockerfile without the passwords of its URLs.
func redacted(text []byte) []byte { return []byte(source.Redact(string(text))) }
