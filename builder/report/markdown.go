package report

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// The lengths of a summary.
const (
	maxSummarySteps = 10
	maxSummaryLog   = 40
	maxSummaryLine  = 300 // runes
)

// Markdown writes a short summary, for job pages and comments of GitHub and GitLab.
func Markdown(w io.Writer, b *Build) error {
	m := &markdown{}
	m.head(b)
	m.failure(b.Failure)
	if len(b.Findings) > 0 {
		m.printf("\n#### What to do\n\n")
		for i, f := range b.Findings {
			m.printf("%d. %s.", i+1, inline(f.Text))
			if f.Advice != "" {
				m.printf(" *To change that:* %s.", inline(f.Advice))
			}
			m.printf("\n")
		}
	}
	m.slowest(b)
	m.images(b)
	m.warnings(b)
	_, err := io.WriteString(w, m.String())
	return err
}

type markdown struct{ strings.Builder }

func (m *markdown) printf(format string, args ...any) { fmt.Fprintf(m, format, args...) }

func (m *markdown) head(b *Build) {
	v := newView(b)
	sign := map[Result]string{Succeeded: "✅", Failed: "❌", Canceled: "⚠️"}[b.Result]
	m.printf("### %s %s\n\n", sign, inline(v.Title))
	m.printf("%s in **%s**: %s ran, %d cached", b.Result, clock(b.Duration), count(v.Ran, "step"), v.Cached)
	if b.Pulled > 0 {
		m.printf(", %s pulled", size(b.Pulled))
	}
	if b.Pushed > 0 {
		m.printf(", %s pushed", size(b.Pushed))
	}
	m.printf(" (cairn %s%s)\n", inline(b.Cairn), revisions(b))
}

// revisions returns the git commits of the contexts, as in ", commit 1a2b3c4d5e6f".
func revisions(b *Build) string {
	var all []string
	for _, t := range b.Targets {
		if text := ", commit " + inline(shortRevision(t.Revision)); t.Revision != "" && !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return strings.Join(all, "")
}

// shortRevision returns the first digits of the ID of a commit.
func shortRevision(id string) string { return id[:min(len(id), 12)] }

func (m *markdown) failure(f *Failure) {
	if f == nil {
		return
	}
	m.printf("\n#### Error\n\n%s\n", inline(f.Message))
	if f.Hint != "" {
		m.printf("\n%s\n", inline(f.Hint))
	}
	var lines []string
	for _, l := range f.Lines {
		mark := "   "
		if l.Marked {
			mark = ">>>"
		}
		lines = append(lines, fmt.Sprintf("%4d | %s %s", l.Number, mark, l.Text))
	}
	m.fence(lines)
	m.fence(f.Log[max(len(f.Log)-maxSummaryLog, 0):])
}

// fence writes a block of code. Its fence is longer than any in the lines.
func (m *markdown) fence(lines []string) {
	if len(lines) == 0 {
		return
	}
	lines = slices.Clone(lines)
	longest := 2
	for i, line := range lines {
		lines[i] = visibleRunes(line, maxSummaryLine)
		for run := range strings.FieldsFuncSeq(lines[i], func(r rune) bool { return r != '`' }) {
			longest = max(longest, len(run))
		}
	}
	fence := strings.Repeat("`", longest+1)
	m.printf("\n%s\n%s\n%s\n", fence, strings.Join(lines, "\n"), fence)
}

func (m *markdown) slowest(b *Build) {
	v := newView(b)
	steps := v.Slowest[:min(len(v.Slowest), maxSummarySteps)]
	if len(steps) == 0 {
		return
	}
	m.printf("\n<details><summary>Slowest steps</summary>\n\n| step | time | processor | memory | why it ran |\n|---|---:|---:|---:|---|\n")
	for _, s := range steps {
		why := string(s.State)
		if s.State == StateRan {
			why = ""
		}
		if s.Reason != nil {
			why = s.Reason.Text
			if s.Reason.Cause == "new" {
				why = "new"
			}
		}
		processor, memory := "", ""
		if s.CPU > 0 {
			processor = clock(s.CPU)
		}
		if s.Memory > 0 {
			memory = size(s.Memory)
		}
		m.printf("| %s | %s | %s | %s | %s |\n", inline(s.Name), clock(s.Duration()), processor, memory, inline(why))
	}
	m.printf("\n</details>\n")
}

func (m *markdown) images(b *Build) {
	var rows []string
	for _, t := range b.Targets {
		for _, img := range t.Images {
			names := strings.Join(slices.Concat(t.Tags, t.Pushed), ", ")
			if names == "" {
				names = t.Name
			}
			rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | %s |", inline(names), inline(img.Platform), size(img.Size), size(img.Waste.Bytes), inline(string(img.Digest))))
		}
	}
	if len(rows) > 0 {
		m.printf("\n| image | platform | size | wasted | digest |\n|---|---|---:|---:|---|\n%s\n", strings.Join(rows[:min(len(rows), maxRows)], "\n"))
	}
}

func (m *markdown) warnings(b *Build) {
	if len(b.Warnings) == 0 {
		return
	}
	m.printf("\n<details><summary>%s</summary>\n\n", count(len(b.Warnings), "warning"))
	for _, w := range b.Warnings[:min(len(b.Warnings), maxFiles)] {
		at := ""
		if w.Line > 0 {
			at = fmt.Sprintf(" (%s:%d)", w.File, w.Line)
		}
		rule := ""
		if w.Rule != "" {
			rule = w.Rule + ": "
		}
		m.printf("- %s\n", inline(rule+w.Text+at))
	}
	m.printf("\n</details>\n")
}

// inline returns a text in which Markdown and HTML have no effect, nor do mentions.
func inline(text string) string {
	text = cutRunes(visible(text), maxSummaryLine)
	var b strings.Builder
	last := 0
	for _, at := range harmless.FindAllStringIndex(text, -1) {
		b.WriteString(escape(text[last:at[0]]))
		b.WriteString(text[at[0]:at[1]])
		last = at[1]
	}
	b.WriteString(escape(text[last:]))
	return b.String()
}

// harmless matches characters that have no effect in their place: the brackets of the
// name of a step, colons that are not those of a URL, and the @ before a digest.
var harmless = regexp.MustCompile(`\[[A-Za-z0-9][A-Za-z0-9 /.-]{2,}\] |[0-9A-Za-z](:[0-9]+)+(: |@sha256:)?|[0-9A-Za-z]: |[0-9A-Za-z]@sha256:`)

func escape(text string) string {
	var b strings.Builder
	for _, r := range text {
		if r < 0x80 && strings.ContainsRune("\\`*_{}[]<>#+!|&~@:^$", r) {
			fmt.Fprintf(&b, "&#%d;", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func cutRunes(s string, n int) string {
	if runes := []rune(s); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return s
}
