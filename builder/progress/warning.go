package progress

import "fmt"

// Warning is a warning about a source, with its position. Its JSON is that of
// BuildKit's stream.
type Warning struct {
	Vertex string   `json:"vertex,omitempty"` // filled in by the display
	Level  int      `json:"level,omitempty"`
	Short  []byte   `json:"short,omitempty"`  // one line
	Detail [][]byte `json:"detail,omitempty"` // general explanation
	URL    string   `json:"url,omitempty"`
	Source *Source  `json:"sourceInfo,omitempty"`
	Ranges []Span   `json:"range,omitempty"` // of Source
}

// Source is a file that is built, such as a Dockerfile.
type Source struct {
	Filename string `json:"filename,omitempty"`
	Data     []byte `json:"data,omitempty"`
	Language string `json:"language,omitempty"`
}

// Span is a range of lines in a source, counted from 1.
type Span struct {
	Start Place `json:"start"`
	End   Place `json:"end"`
}

// Place is the start or end of a span.
type Place struct {
	Line int `json:"line,omitempty"`
}

// Advise displays a warning about a source of the vertex on line-oriented displays.
// On a terminal the caller has to print it at the end.
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

// advise prints a line immediately: the vertex may have ended.
func (p *plain) advise(v *Vertex, w Warning) {
	if p.current != nil {
		p.r.buf = finishOpen(p.r.buf, p.current)
	}
	p.r.buf = append(p.r.buf, fmt.Sprintf("#%d WARN: %s\n", v.number, oneLine(string(w.Short)))...)
	p.printed = true
}
