package option

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cairn-build/cairn/builder/dockerfile"
)

// Call is a value of --call: a question about the Dockerfile to answer instead
// of building it.
type Call struct {
	Method       string // check, outline or targets; "": build
	JSON         bool   // answer in JSON
	IgnoreStatus bool   // succeed in spite of warnings
}

// Calls lists the methods of --call.
func Calls() []string { return []string{"build", "check", "outline", "targets"} }

var callAttributes = table[Call]{
	{key: "format", set: func(c *Call, _, value string) error {
		if c.JSON = value == "json"; !c.JSON && value != "text" {
			return fmt.Errorf("format %q: want json or text", value)
		}
		return nil
	}},
	{key: "ignorestatus", set: setBool(func(c *Call) *bool { return &c.IgnoreStatus })},
}

// ParseCall parses a value of --call in the syntax of buildx,
// METHOD[,format=json][,ignorestatus=true].
func ParseCall(text string) (Call, error) {
	fields, err := splitList(text)
	if err != nil {
		return Call{}, err
	}
	var c Call
	var methods, attributes []string
	for _, field := range fields {
		if strings.Contains(field, "=") {
			attributes = append(attributes, field)
		} else {
			methods = append(methods, field)
		}
	}
	if len(methods) > 1 {
		return c, fmt.Errorf("both %s and %s: want one of build, check, outline, targets", methods[0], methods[1])
	}
	if len(methods) > 0 {
		if c.Method, err = callMethod(methods[0]); err != nil {
			return c, err
		}
	}
	_, err = callAttributes.parse(&c, attributes)
	return c, err
}

func callMethod(name string) (string, error) {
	switch name {
	case "build":
		return "", nil
	case "lint", "check":
		return "check", nil
	case "outline", "targets":
		return name, nil
	}
	return "", dockerfile.DidYouMean(errors.New("want one of build, check, outline, targets"), name, Calls())
}
