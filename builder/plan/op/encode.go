package op

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/cairn-build/cairn/builder/solve"
	"github.com/cairn-build/cairn/layer"
)

// kindPrefix precedes the kind in every encoded op.
const kindPrefix = `{"op":"`

// NewStep returns a step that carries out o on the given inputs.
func NewStep(o Op, in ...solve.Input) *solve.Step {
	s := &solve.Step{Op: encode(o.kind(), o), In: in}
	switch o := o.(type) {
	case Image:
		if o.Extra.Ref != "" || o.Extra.Layers != nil {
			s.Extra = encode("", o.Extra)
		}
	case Run:
		if o.Extra.Proxy != nil || o.Extra.Caches != nil || o.Extra.Origins != nil {
			s.Extra = encode("", o.Extra)
		}
	case Git:
		s.Extra = encode("", o.Extra)
	case HTTP:
		s.Extra = encode("", o.Extra)
	}
	return s
}

// FromLayers returns the step for an image with these layers, bottom first,
// without a source to fetch them from. Without layers it is [Scratch].
func FromLayers(diffIDs []layer.Digest) *solve.Step {
	if len(diffIDs) == 0 {
		return NewStep(Scratch{})
	}
	return NewStep(Image{DiffIDs: diffIDs})
}

// Encode returns the text of the selection for [solve.Input].Sel.
func (s Selection) Encode() string { return encode("", s) }

// encode returns the canonical JSON of v: equal values have equal bytes. A kind
// other than "" becomes the field "op".
func encode(kind string, v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // ops consist of strings, numbers and lists
	}
	text := b.String()[:b.Len()-1]
	if kind == "" {
		return text
	}
	head := kindPrefix + kind + `"`
	if text != "{}" {
		head += ","
	}
	return head + text[1:]
}

// Kind returns the kind of the step's op, such as "run", without decoding it.
func Kind(s *solve.Step) string {
	rest, _ := strings.CutPrefix(s.Op, kindPrefix)
	kind, _, _ := strings.Cut(rest, `"`)
	return kind
}

// Decode returns the op of a step that [NewStep] made, with its Extra.
func Decode(s *solve.Step) (Op, error) {
	switch Kind(s) {
	case "scratch":
		return Scratch{}, nil
	case "stack":
		return Stack{}, nil
	case "context":
		return decode[Context](s, nil)
	case "copy":
		return decode[Copy](s, nil)
	case "workdir":
		return decode[Workdir](s, nil)
	case "git":
		return decode(s, func(o *Git) any { return &o.Extra })
	case "http":
		return decode(s, func(o *HTTP) any { return &o.Extra })
	case "image":
		return decode(s, func(o *Image) any { return &o.Extra })
	case "run":
		return decode(s, func(o *Run) any { return &o.Extra })
	}
	return nil, fmt.Errorf("step of unknown kind: %.40q", s.Op)
}

// decode reads an op and, for kinds that have one, its Extra.
func decode[O Op](s *solve.Step, extra func(*O) any) (Op, error) {
	var o O
	if err := json.Unmarshal([]byte(s.Op), &o); err != nil {
		return nil, fmt.Errorf("step %.40q: %w", s.Op, err)
	}
	if extra != nil && s.Extra != "" {
		if err := json.Unmarshal([]byte(s.Extra), extra(&o)); err != nil {
			return nil, fmt.Errorf("extra data of step %.40q: %w", s.Op, err)
		}
	}
	return o, nil
}

// DecodeSelection parses a [solve.Input]'s Sel.
func DecodeSelection(sel string) (Selection, error) {
	var s Selection
	if err := json.Unmarshal([]byte(sel), &s); err != nil {
		return Selection{}, fmt.Errorf("selection %.40q: %w", sel, err)
	}
	return s, nil
}

func (Scratch) kind() string { return "scratch" }
func (Image) kind() string   { return "image" }
func (Context) kind() string { return "context" }
func (Git) kind() string     { return "git" }
func (HTTP) kind() string    { return "http" }
func (Copy) kind() string    { return "copy" }
func (Workdir) kind() string { return "workdir" }
func (Run) kind() string     { return "run" }
func (Stack) kind() string   { return "stack" }
