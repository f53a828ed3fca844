package layer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Unmarshal is [json.Unmarshal] for untrusted documents: its error names the field
// of a wrong type, and no Go type.
func Unmarshal(raw []byte, v any) error {
	err := json.Unmarshal(raw, v)
	kind := (*json.UnmarshalTypeError)(nil)
	switch {
	case !errors.As(err, &kind):
		return err
	case kind.Field == "":
		return fmt.Errorf("JSON document has the wrong type %s", kind.Value)
	}
	// The path has embedded structs too, which are not in the document.
	var path []string
	for name := range strings.SplitSeq(kind.Field, ".") {
		if bytes.Contains(bytes.ToLower(raw), []byte(strconv.Quote(strings.ToLower(name)))) {
			path = append(path, name)
		}
	}
	return fmt.Errorf("JSON field %s has the wrong type %s", strings.Join(path, "."), kind.Value)
}
