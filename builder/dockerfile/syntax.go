package dockerfile

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// The built-in version of docker's Dockerfile syntax: that of BuildKit's parser.
const (
	syntaxMajor = 1
	syntaxMinor = 28
)

// readSyntax reads the frontend in # syntax=, or in the option that replaces it. It
// accepts all versions of docker's frontend, with a warning for later ones. Other
// frontends are programs, which Cairn does not run.
func (f *File) readSyntax(option *string) error {
	syntax, _, at, _ := parser.DetectSyntax(f.Text)
	from := "# syntax="
	if option != nil {
		syntax, _, _ = strings.Cut(strings.TrimSpace(*option), " ")
		from, at = "BUILDKIT_SYNTAX=", nil
	}
	f.Syntax = syntax
	name, tag := splitReference(syntax)
	switch name {
	case "", "dockerfile.v0":
		return nil
	case "dockerfile", "dockerfile-upstream":
	default:
		err := fmt.Errorf("not supported by cairn: the frontend %q that %s names: only docker/dockerfile, version %d.%d, is built in",
			syntax, from, syntaxMajor, syntaxMinor)
		return f.At(err, fromRanges(at)...)
	}
	if newer(tag) {
		f.Advice = append(f.Advice, Warning{
			Rule: "NewerSyntax", Description: "The syntax that is asked for should be one that is built in",
			Detail: fmt.Sprintf("%s%s may be newer than version %d.%d, which is built in: instructions, flags, mount types and lint rules that came later are not known",
				from, syntax, syntaxMajor, syntaxMinor),
			Ranges: fromRanges(at),
		})
	}
	return nil
}

// splitReference returns the last element of an image's name, and its tag.
func splitReference(ref string) (name, tag string) {
	name, _, _ = strings.Cut(ref, "@")
	name = name[strings.LastIndexByte(name, '/')+1:]
	name, tag, _ = strings.Cut(name, ":")
	return name, tag
}

// newer reports whether a tag names a later version of the syntax, or one that is
// never released. The channel, labs or stable, does not matter: the features of
// labs are built in.
func newer(tag string) bool {
	version, _, _ := strings.Cut(tag, "-")
	if version == "master" || version == "nightly" {
		return true
	}
	first, rest, _ := strings.Cut(version, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, err := strconv.Atoi(first)
	if err != nil {
		return false // latest, labs
	}
	minor, err := strconv.Atoi(second)
	return major > syntaxMajor || err == nil && major == syntaxMajor && minor > syntaxMinor
}
