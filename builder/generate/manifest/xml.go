package manifest

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	maxXMLDepth = 100
	maxXMLNodes = 100_000
)

// Element is an element of an XML document. Names are without namespaces.
type Element struct {
	Name     string
	Text     string // of the element itself, without spaces around it
	Attrs    map[string]string
	Children []*Element
}

// XML decodes a document and returns its root element.
func XML(text []byte) (*Element, error) {
	root, err := decodeXML(text)
	if err != nil {
		return nil, fmt.Errorf("invalid XML: %w", err)
	}
	return root, nil
}

func decodeXML(text []byte) (*Element, error) {
	d := xml.NewDecoder(bytes.NewReader(text))
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil } // names are ASCII
	top := &Element{}
	stack := []*Element{top}
	for nodes := 0; ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		last := stack[len(stack)-1]
		switch t := token.(type) {
		case xml.StartElement:
			if nodes++; nodes > maxXMLNodes || len(stack) > maxXMLDepth {
				return nil, errors.New("too many or too deep elements")
			}
			e := &Element{Name: t.Name.Local}
			for _, a := range t.Attr {
				if e.Attrs == nil {
					e.Attrs = map[string]string{}
				}
				e.Attrs[a.Name.Local] = a.Value
			}
			last.Children = append(last.Children, e)
			stack = append(stack, e)
		case xml.EndElement:
			last.Text = strings.TrimSpace(last.Text)
			stack = stack[:len(stack)-1]
		case xml.CharData:
			if len(last.Children) == 0 {
				last.Text += string(t)
			}
		}
	}
	if len(top.Children) != 1 {
		return nil, errors.New("want one root element")
	}
	return top.Children[0], nil
}

// Child returns the first element at a path of names below e, or nil.
func (e *Element) Child(names ...string) *Element {
	if e == nil || len(names) == 0 {
		return e
	}
	for _, c := range e.Children {
		if c.Name == names[0] {
			return c.Child(names[1:]...)
		}
	}
	return nil
}

// Get returns the text of the first element at a path of names below e, or "".
func (e *Element) Get(names ...string) string {
	if c := e.Child(names...); c != nil {
		return c.Text
	}
	return ""
}

// All returns the elements with a name, at any depth below e.
func (e *Element) All(name string) (found []*Element) {
	if e == nil {
		return nil
	}
	for _, c := range e.Children {
		if c.Name == name {
			found = append(found, c)
		}
		found = append(found, c.All(name)...)
	}
	return found
}
