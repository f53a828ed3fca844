package lazyschema_test

import (
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/cairn-build/cairn/builder/bake/compose/lazyschema"
)

// TestInit checks that the library is not initialized before Init, and works after it.
func TestInit(t *testing.T) {
	compile := func() (err any) {
		defer func() { err = recover() }()
		c := jsonschema.NewCompiler()
		doc, failed := jsonschema.UnmarshalJSON(strings.NewReader(`{"type": "object", "required": ["a"], "properties": {"a": {"format": "ipv4"}}}`))
		if failed != nil {
			t.Fatal(failed)
		}
		if failed := c.AddResource("schema.json", doc); failed != nil {
			t.Fatal(failed)
		}
		s, failed := c.Compile("schema.json")
		if failed != nil {
			return failed
		}
		if err := s.Validate(map[string]any{}); err == nil {
			t.Error("a missing property is valid")
		}
		if err := s.Validate(map[string]any{"a": "1.2.3.4"}); err != nil {
			t.Error(err)
		}
		return nil
	}
	if compile() == nil {
		t.Error("the library works before Init: something else has initialized it, at each start")
	}
	lazyschema.Init()
	lazyschema.Init()
	if err := compile(); err != nil {
		t.Error(err)
	}
}
