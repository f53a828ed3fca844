package command

import (
	"bytes"
	"testing"
	"time"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/dockerfile"
	"github.com/cairn-build/cairn/builder/worker"
	"github.com/cairn-build/cairn/layer"
)

// On a terminal the command of a failed step is shown once, in the lines of the
// Dockerfile, and what failed is red.
func TestReportOnTerminal(t *testing.T) {
	t.Parallel()
	file, err := dockerfile.Parse("Dockerfile", []byte("FROM a\nRUN make\n"))
	if err != nil {
		t.Fatal(err)
	}
	exit := &worker.ExitError{Args: []string{"/bin/sh", "-c", "make"}, Code: 2, Why: "no memory"}
	failed := &builder.StepError{
		Name: "[2/2] RUN make", Tail: []string{"last words"}, Hint: "try again",
		Err: file.At(exit, dockerfile.Range{First: 2, Last: 2}),
	}
	const lines = "Dockerfile:2\n--------------------\n   1 |     FROM a\n"
	for _, test := range []struct {
		name            string
		terminal, color bool
		want            string
	}{
		{"a file", false, true, "------\n > [2/2] RUN make:\nlast words\n------\n" + lines +
			"   2 | >>> RUN make\n   3 |     \n--------------------\n" +
			"error: Dockerfile:2: process \"/bin/sh -c make\" did not complete successfully: exit code: 2: no memory\nhint: try again\n"},
		{"a terminal", true, true, "------\nlast words\n------\n" + lines +
			"\x1b[1;31m   2 | >>> RUN make\x1b[0m\n   3 |     \n--------------------\n" +
			"\x1b[1;31merror: Dockerfile:2: the command failed with exit code 2: no memory\x1b[0m\nhint: try again\n"},
		{"without colours", true, false, "------\nlast words\n------\n" + lines +
			"   2 | >>> RUN make\n   3 |     \n--------------------\n" +
			"error: Dockerfile:2: the command failed with exit code 2: no memory\nhint: try again\n"},
	} {
		var out bytes.Buffer
		printError(&out, failed, test.terminal, test.color)
		same(t, test.name, out.String(), test.want)
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	img := imageOf(t, `{"os":"linux","architecture":"amd64"}`)
	img.Layers = []layer.Descriptor{{Digest: "sha256:a", Size: 136_000_000}, {Digest: "sha256:b", Size: 400}}
	arm := imageOf(t, `{"os":"linux","architecture":"arm64"}`)
	arm.Layers = img.Layers
	for want, built := range map[string]*builder.Built{
		"built ui:1 (linux/amd64, 136 MB, 14 steps, 9 cached) in 21.8s": {
			Image: img, Tags: []string{"docker.io/library/ui:1"}, Steps: builder.StepCount{Ran: 4, Shared: 1, Cached: 9},
		},
		"built an image (linux/amd64, 136 MB, 1 step) in 21.8s": {Image: img, Steps: builder.StepCount{Ran: 1}},
		"built a:1, host/b:2 (linux/amd64, linux/arm64, 136 MB, 0 steps) in 21.8s": {
			Image: img, Index: &layer.Index{Images: []layer.Image{img, arm}}, Tags: []string{"docker.io/library/a:1", "host/b:2"},
		},
	} {
		same(t, "summary", summary(built, 21_840*time.Millisecond), want)
	}
}
