package generate

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/generate/survey"
)

func TestPin(t *testing.T) {
	const text = "# FROM x:1\nFROM --platform=$BUILDPLATFORM golang:1.26 AS build\nRUN echo \\\n FROM y\n\nFROM build AS test\nFROM golang:1.26\nCOPY --from=build /a /\n"
	const want = "# FROM x:1\nFROM --platform=$BUILDPLATFORM golang:1.26@sha256:1 AS build\nRUN echo \\\n FROM y\n\nFROM build AS test\nFROM golang:1.26@sha256:1\nCOPY --from=build /a /\n"
	r := &Result{Project: &survey.Project{}, Dockerfile: text}
	var asked []string
	err := r.Pin(t.Context(), func(_ context.Context, image string) (string, error) {
		asked = append(asked, image)
		return "sha256:1", nil
	})
	if err != nil || r.Dockerfile != want || strings.Join(asked, " ") != "golang:1.26" || len(r.Project.Findings) != 1 {
		t.Errorf("%v, asked for %q\n%s", err, asked, r.Dockerfile)
	}
	lost := errors.New("not found")
	r.Dockerfile = text
	if err := r.Pin(t.Context(), func(context.Context, string) (string, error) { return "", lost }); !errors.Is(err, lost) || r.Dockerfile != text {
		t.Errorf("%v\n%s", err, r.Dockerfile)
	}
}
