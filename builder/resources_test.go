package builder

import (
	"errors"
	"testing"

	"github.com/cairn-build/cairn/builder/sandbox/cgroup"
)

// A Dockerfile may be given as text; its context is still the directory.
func TestInlineDockerfile(t *testing.T) {
	dir := contextOf(t, map[string]string{"Dockerfile": "NONSENSE\n", "f": "text"})
	b := newBuilder(t, nil)
	at := int64(epoch)
	built, err := b.buildAll(t, SessionOptions{}, Target{Context: dir, Inline: "FROM scratch\nCOPY f /inline\n", Epoch: &at})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(built[0].Image.Layers); n != 1 {
		t.Errorf("%d layers, want 1", n)
	}
}

// Each target has its own limits.
func TestResourcesOfTargets(t *testing.T) {
	needSandbox(t)
	b := newBuilder(t, nil)
	limited, plain := busyboxDir(t, "RUN (sleep 9 & sleep 9 & sleep 9 & kill $(jobs -p)) && echo limited\n"), busyboxDir(t, "RUN (sleep 9 & sleep 9 & sleep 9 & kill $(jobs -p)) && echo plain\n")
	_, err := b.buildAll(t, SessionOptions{KeepGoing: true},
		Target{Name: "limited", Context: limited, Resources: &cgroup.Limits{PIDs: 2}}, Target{Name: "plain", Context: plain})
	if lack, ok := errors.AsType[*cgroup.Requirement](err); ok {
		t.Skip(lack)
	}
	if failed, ok := err.(*FailedError); !ok || failed.Error() != "1 target failed: limited" {
		t.Errorf("error %v", err)
	}
}
