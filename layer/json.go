package layer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Unmarshal is [json.Unmarshal] for what comes from elsewhere: its error names the
// field that is of another kind, and no type of Go's.
func Unmarshal(raw []byte, v any) error {
	err := json.Unmarshal(raw, v)
	kind := (*json.UnmarshalTypeError)(nil)
	switch {
	case !errors.As(err, &kind):
		return err
	case kind.Field == "":
		return fmt.Errorf("JSON of another kind: it is of type %s", kind.Value)
	}
	// Embedded structs are in the path too, which no document has.
	var path []string
	for name := range strings.SplitSeq(kind.Field, ".") {
		if bytes.Contains(bytes.ToLower(raw), []byte(strconv.Quote(strings.ToLower(name)))) {
			path = append(path, name)
		}
	}
	return fmt.Errorf("JSON of another kind: %s is of type %s", strings.Join(path, "."), kind.Value)
}
