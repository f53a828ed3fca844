package command

import (
	"fmt"
	"slices"
	"strings"
)

// BuildFlagsPage returns the topic about the flags of other builders. The table of
// flags is its only source.
func BuildFlagsPage() string {
	all := peerFlags()
	slices.SortFunc(all, func(a, b peerFlag) int { return strings.Compare(a.name, b.name) })
	var b strings.Builder
	b.WriteString(`# Flags of other builders

Look up a flag of docker build, podman build or buildah build.

<!-- Generated from the table of flags by go test ./cmd/cairn/command -update. -->

` + "`cairn build`" + ` knows every flag of these programs, also those that its own help does not list. Flags with one name and meaning in
Cairn:

`)
	var names []string
	for _, f := range all {
		if f.does == asOwn && f.text == "" {
			names = append(names, "`--"+f.name+"`")
		}
	}
	b.WriteString(wrapWords(strings.Join(names, ", ")+".", 130) + `

The others are one of:

- **same**: a flag of Cairn, with the difference that the text names.
- **mapped**: the text names the flag or option of Cairn with the same effect.
- **quiet**: accepted. The text says why it changes nothing.
- **notice**: accepted with a warning, as the result is not quite the same.
- **refused**: an error with the reason, as the result would be wrong or less safe than asked for.

| flag | of | | |
|---|---|---|---|
`)
	for _, f := range all {
		if f.does == asOwn && f.text == "" {
			continue
		}
		text := f.text
		if accepted := f.acceptedText(); accepted != "" {
			text += "; " + accepted + " accepted"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", escapeBar(f.usage()), strings.ReplaceAll(f.of, " ", ", "), f.does, escapeBar(text))
	}
	return b.String()
}

// usage returns the names of a flag with its value.
func (f *peerFlag) usage() string {
	name := "--" + f.name
	if f.short != "" {
		name = "-" + f.short + ", " + name
	}
	return strings.TrimSpace(name + " " + f.kind)
}

// acceptedText lists the values that a refused flag accepts, without spellings of the
// same one.
func (f *peerFlag) acceptedText() string {
	var values []string
	for _, v := range f.harmless {
		switch {
		case v == "":
		case slices.Contains(trueWords()[1:], v) || slices.Contains(falseWords()[1:], v) || strings.Contains(v, ":"):
		default:
			values = append(values, "`"+v+"`")
		}
	}
	switch len(values) {
	case 0:
		return ""
	case 1:
		return values[0] + " is"
	}
	return strings.Join(values[:len(values)-1], ", ") + " and " + values[len(values)-1] + " are"
}

func escapeBar(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// wrapWords breaks a text into lines.
func wrapWords(text string, width int) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > width:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
