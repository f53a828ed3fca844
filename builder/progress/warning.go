package progress

import "fmt"

// Warning is advice about the text that is built from, with its place. Its JSON
// is that of BuildKit's stream.
type Warning struct {
	Vertex string   `json:"vertex,omitempty"` // filled in by the display
	Level  int      `json:"level,omitempty"`
	Short  []byte   `json:"short,omitempty"`  // one line
	Detail [][]byte `json:"detail,omitempty"` // what it means in general
	URL    string   `json:"url,omitempty"`
	Source *Source  `json:"sourceInfo,omitempty"`
	Ranges []Span   `json:"range,omitempty"` // of Source
}

// Source is a text that is built from.
type Source struct {
	Filename string `json:"filename,omitempty"`
	Data     []byte `json:"data,omitempty"`
	Language string `json:"language,omitempty"`
}

// Span is some lines of a source, first and last, counted from 1.
type Span struct {
	Start Place `json:"start"`
	End   Place `json:"end"`
}

// Place is where a span starts or ends.
type Place struct {
	Line int `json:"line,omitempty"`
}

// Advise shows a warning about what a vertex read, where displays go on line by
// line. On a terminal it is the caller's to show it when all is done.
func (v *Vertex) Advise(w Warning) {
	v.event(func() {
		v.begin()
		v.r.display.advise(v, w)
	})
}

func (silent) advise(*Vertex, Warning) {}
func (t *tty) advise(*Vertex, Warning) {}

func (j *rawJSON) advise(v *Vertex, w Warning) {
	w.Vertex = id(v)
	j.emit(jsonEvent{Warnings: []Warning{w}})
}

// advise prints a line at once: the vertex may have ended.
func (p *plain) advise(v *Vertex, w Warning) {
	if p.current != nil {
		p.r.buf = finishOpen(p.r.buf, p.current)
	}
	p.r.buf = append(p.r.buf, fmt.Sprintf("#%d WARN: %s\n", v.number, oneLine(string(w.Short)))...)
	p.printed = true
}
