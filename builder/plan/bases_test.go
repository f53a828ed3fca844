package plan

import (
	"slices"
	"testing"

	"github.com/cairn-build/cairn/builder/dockerfile"
)

// BaseImages has the images of the needed stages, after expansion.
func TestBaseImages(t *testing.T) {
	const text = `ARG V=1
FROM example/unused AS unused
FROM --platform=$BUILDPLATFORM example/tool:$V AS tool
RUN --mount=from=example/mounted,target=/m true
FROM tool AS middle
COPY --from=example/copied /f /
FROM scratch AS files
FROM replaced
COPY --from=middle /f /
COPY --from=tool /f /
COPY --from=files /f /
COPY --from=example/copied /g /
COPY --from=named /g /
`
	for _, test := range []struct {
		text, target string
		args         map[string]string
		want         []string
	}{
		{text, "", map[string]string{"V": "2"}, []string{"docker.io/example/tool:2", "docker.io/example/mounted:latest", "docker.io/example/copied:latest"}},
		{text, "tool", nil, []string{"docker.io/example/tool:1", "docker.io/example/mounted:latest"}},
		{text, "files", nil, nil},
		{text, "none", nil, nil},
		{"FROM $EMPTY\n", "", nil, nil},
		{"FROM a:b:c\n", "", nil, nil},
	} {
		file, err := dockerfile.Parse("Dockerfile", []byte(test.text))
		if err != nil {
			t.Fatal(err)
		}
		in := Input{File: file, Target: test.target, Args: test.args, Named: map[string]Named{"replaced": {Image: "x"}, "named": {}}}
		if got := BaseImages(in); !slices.Equal(got, test.want) {
			t.Errorf("target %q of\n%s: %q, want %q", test.target, test.text, got, test.want)
		}
	}
}
