package builder

import (
	"errors"
	"regexp"
	"strings"

	"github.com/cairn-build/cairn/builder/worker"
)

// upward is a source of COPY or ADD that begins with the parent directory.
var upward = regexp.MustCompile(`\b(COPY|ADD)\b.*[ "]\.\./`)

// hint returns a probable reason of an error of the named step, or "".
func hint(name string, err error) string {
	var failed *worker.HintedError
	switch {
	case errors.As(err, &failed):
		return failed.Hint
	case upward.MatchString(name) && strings.Contains(err.Error(), "not found in the build context"):
		return "../ does not lead out of the build context: build in the parent directory, with -f and the path of the Dockerfile, or add --build-context NAME=../DIR and copy --from=NAME"
	}
	return ""
}
