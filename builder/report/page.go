package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"sync"
	"unicode"
)

//go:embed page.html
var pageText string

var page = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"v": visible, "output": func(line string) string { return visibleRunes(line, maxLine) }, "size": size, "clock": clock, "short": shortDigest, "count": count, "percent": percent,
		"pixels": func(f float64) string { return fmt.Sprintf("%.1f", f) },
	}).Parse(pageText))
})

// The numbers of rows of a page. Its JSON has all.
const (
	maxLanes   = 300
	maxDetails = 400
	maxRows    = 100
	maxText    = 1 << 20 // bytes of output of all steps
)

// HTML writes a page without scripts and without references to other files.
func HTML(w io.Writer, b *Build) error {
	if err := page().Execute(w, newView(b)); err != nil {
		return fmt.Errorf("writing the page: %w", err)
	}
	return nil
}

// view is the data of the page.
type view struct {
	*Build
	Title    string
	Ran      int
	Cached   int
	Timeline timeline
	Slowest  []stepView
	Details  []stepView
	More     int // steps without details
	Critical string
	Schema   int
}

// stepView is a step in a table or with details.
type stepView struct {
	*Step
	Critical bool
	Log      []string
	Omitted  bool // its output is not on the page
}

func newView(b *Build) *view {
	v := &view{Build: b, Title: Title(b), Schema: Version}
	critical := map[int]bool{}
	var sum float64
	for _, id := range b.Critical {
		critical[id] = true
	}
	for i := range b.Steps {
		s := &b.Steps[i]
		if critical[s.ID] {
			sum += s.Duration()
		}
	}
	v.Ran, v.Cached = b.CountSteps()
	v.Critical = clock(sum)
	v.Timeline = newTimeline(b, critical)
	budget := maxText
	for _, s := range mostImportant(b.Steps, critical, maxDetails) {
		d := stepView{Step: s, Critical: critical[s.ID], Log: s.Log}
		n := 0
		for _, line := range s.Log {
			n += len(line) + 1
		}
		if budget -= n; budget < 0 && n > 0 {
			budget += n
			d.Log, d.Omitted = nil, true
		}
		v.Details = append(v.Details, d)
	}
	v.More = len(b.Steps) - len(v.Details)
	slowest := mostImportant(b.Steps, nil, maxRows)
	slices.SortStableFunc(slowest, func(x, y *Step) int { return int((y.Duration() - x.Duration()) * 1000) })
	for _, s := range slowest {
		v.Slowest = append(v.Slowest, stepView{Step: s, Critical: critical[s.ID]})
	}
	return v
}

// mostImportant returns at most n steps, in their order: those that failed, are critical
// or took longest.
func mostImportant(all []Step, critical map[int]bool, n int) (out []*Step) {
	for i := range all {
		out = append(out, &all[i])
	}
	if len(out) <= n {
		return out
	}
	weight := func(s *Step) float64 {
		w := s.Duration()
		if critical[s.ID] {
			w += 1e6
		}
		if s.State == StateFailed {
			w += 1e9
		}
		return w
	}
	slices.SortStableFunc(out, func(x, y *Step) int {
		switch {
		case weight(x) > weight(y):
			return -1
		case weight(x) < weight(y):
			return 1
		}
		return 0
	})
	out = out[:n]
	slices.SortFunc(out, func(x, y *Step) int { return x.ID - y.ID })
	return out
}

// Names returns the names that the build set, and whether it pushed them.
func (t Target) Names() (names []string, pushed map[string]bool) {
	pushed = map[string]bool{}
	for _, name := range t.Pushed {
		pushed[name] = true
	}
	for _, name := range slices.Concat(t.Tags, t.Pushed) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, pushed
}

// Unset returns the names that a target without an image was to set.
func (t Target) Unset() []string {
	if t.Digest != "" {
		return nil
	}
	return t.Wanted
}

// Title names a build by its first tag.
func Title(b *Build) string {
	var names []string
	for _, t := range b.Targets {
		switch {
		case len(t.Tags) > 0:
			names = append(names, t.Tags[0])
		case len(t.Pushed) > 0:
			names = append(names, t.Pushed[0])
		case t.Name != "":
			names = append(names, t.Name)
		case len(t.Wanted) > 0:
			names = append(names, t.Wanted[0])
		}
	}
	switch {
	case len(names) == 0 && len(b.Targets) > 0:
		text := "build of " + b.Targets[0].Dockerfile
		if folder := b.Targets[0].Folder; folder != "" {
			text += " in " + folder
		}
		return text
	case len(names) == 0:
		return "build"
	case len(names) > 3:
		return fmt.Sprintf("%s and %d more", names[0], len(names)-1)
	}
	return strings.Join(names, ", ")
}

func shortDigest(d any) string {
	text := fmt.Sprint(d)
	if _, hex, ok := strings.Cut(text, ":"); ok && len(hex) > 12 {
		return hex[:12]
	}
	return text
}

func percent(part, whole int64) string {
	if whole <= 0 {
		return "0"
	}
	return fmt.Sprintf("%.1f", min(100*float64(part)/float64(whole), 100))
}

// maxVisible is the number of runes of a name on a page.
const maxVisible = 400

// visible returns a text without characters that change the appearance of others: control
// characters, and those that reverse the direction of text.
func visible(text any) string { return visibleRunes(fmt.Sprint(text), maxVisible) }

// visibleRunes is visible for a text of which it returns at most the first runes.
func visibleRunes(text string, most int) string {
	s := strings.ToValidUTF8(text, "\uFFFD")
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n++; n > most {
			b.WriteString("…")
			break
		}
		switch {
		case r == '\t' || r == '\n':
			b.WriteByte(' ')
		case unicode.IsControl(r):
			b.WriteRune('\uFFFD')
		case unicode.Is(unicode.Bidi_Control, r), r == '\u2028', r == '\u2029', r == '\u200b', r == '\ufeff':
			fmt.Fprintf(&b, "<U+%04X>", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Key returns the kinds of bars with their names.
func (v *view) Key() map[string]string {
	return map[string]string{"ran": "ran", "waited": "waited", "cached": "cached", "pulled": "pulled", "pushed": "pushed", "later": "packs and sends its layer"}
}

// FirstWarnings returns the warnings that the page has.
func (v *view) FirstWarnings() []Warning { return v.Warnings[:min(len(v.Warnings), maxRows)] }

// MoreWarnings returns the number of the others.
func (v *view) MoreWarnings() int { return max(len(v.Warnings)-maxRows, 0) }

// FirstParts returns the activities of a step that the page has.
func (s stepView) FirstParts() []Part { return s.Parts[:min(len(s.Parts), maxFiles)] }

// layerView is a layer on the page.
type layerView struct {
	Layer
	Index int
	Of    int64 // size of the image
}

// baseView are the layers of the base image.
type baseView struct {
	Layers []layerView
	Count  int
	Size   int64
}

func (img Image) views(base bool) (all []layerView) {
	for i, l := range img.Layers {
		if l.Base == base {
			all = append(all, layerView{l, i, img.Size})
		}
	}
	return all
}

// Below returns the layers of the base image, nil if there are none.
func (img Image) Below() *baseView {
	b := &baseView{Layers: img.views(true)}
	if b.Count = len(b.Layers); b.Count == 0 {
		return nil
	}
	for _, l := range b.Layers {
		b.Size += l.Size
	}
	return b
}

// Own returns the layers that the build made.
func (img Image) Own() []layerView { return img.views(false) }
