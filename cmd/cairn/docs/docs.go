// Package docs contains the documentation of Cairn by topic, which cairn help shows.
//
// Each Markdown file is a topic of that name. Its first line is the title and its
// first paragraph a description of one line. The directory reference has a page for
// each command, generated from its definition.
package docs

import (
	"embed"
	"strings"
)

//go:embed *.md
var files embed.FS

// Topic describes a topic.
type Topic struct {
	Name    string
	Summary string
}

// Topics lists the topics in alphabetical order.
func Topics() []Topic {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(err) // the files are part of the program
	}
	var list []Topic
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".md")
		text, _ := Text(name)
		list = append(list, Topic{Name: name, Summary: summary(text)})
	}
	return list
}

// Text returns the Markdown text of a topic, and false if there is no such topic.
func Text(name string) (string, bool) {
	b, err := files.ReadFile(name + ".md")
	return string(b), err == nil
}

// summary returns the first paragraph of a text.
func summary(text string) string {
	_, rest, _ := strings.Cut(text, "\n")
	paragraph, _, _ := strings.Cut(strings.TrimSpace(rest), "\n\n")
	return strings.Join(strings.Fields(paragraph), " ")
}
