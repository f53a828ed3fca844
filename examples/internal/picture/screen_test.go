package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestScreen(t *testing.T) {
	s := newScreen(20)
	s.write("$ cairn build .\n\x1b[?25l\x1b[?7l\r => one\x1b[K\n[+] 1/2\x1b[K\n\x1b[J\x1b[?25h")
	s.write("\x1b[1A\r\x1b[2m => CACHED <two>\x1b[0m\x1b[K\n[+] FINISHED and longer than the screen\x1b[K\n\x1b[J")
	var got []string
	for _, line := range s.lines {
		var b strings.Builder
		for _, c := range line {
			b.WriteRune(c.r)
		}
		got = append(got, b.String())
	}
	if want := "$ cairn build .| => one| => CACHED <two>|[+] FINISHED and lon|"; strings.Join(got, "|") != want {
		t.Errorf("got %q, want %q", strings.Join(got, "|"), want)
	}
	for _, theme := range themes {
		picture := s.draw(theme)
		if !strings.Contains(picture, `fill="`+theme.faint+`">=&gt; CACHED &lt;two&gt;</text>`) {
			t.Errorf("%s: the faint line is missing in\n%s", theme.name, picture)
		}
		d := xml.NewDecoder(strings.NewReader(picture))
		for {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
}
