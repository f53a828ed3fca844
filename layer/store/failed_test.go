package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/cairn-build/cairn/layer"
)

// Trees of failed steps are no images. They go after a day, and when there are many.
func TestFailed(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	img, err := layer.NewImage([]byte(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers"}}`), nil, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	count := func() int {
		t.Helper()
		all, err := s.Failed()
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	for i := range failedCount + 3 {
		if err := s.KeepFailed(fmt.Sprint(i), img); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Tag("docker.io/library/app:latest", img); err != nil {
		t.Fatal(err)
	}
	if images, err := s.Images(); err != nil || len(images) != 1 {
		t.Errorf("images %v, %v", images, err)
	}
	now := time.Now()
	for _, step := range []struct {
		now  time.Time
		all  bool
		want int
	}{{now, false, failedCount}, {now.Add(FailedAge - time.Hour), false, failedCount}, {now.Add(FailedAge + time.Hour), false, 0}, {now, true, 0}} {
		if err := s.ExpireFailed(step.now, step.all); err != nil || count() != step.want {
			t.Errorf("at %v: %d are left, want %d; %v", step.now, count(), step.want, err)
		}
	}
	if err := s.KeepFailed("x", img); err != nil {
		t.Fatal(err)
	}
	if err := s.ExpireFailed(now, true); err != nil || count() != 0 {
		t.Errorf("%d are left of all; %v", count(), err)
	}
	if images, err := s.Images(); err != nil || len(images) != 1 {
		t.Errorf("images %v, %v", images, err)
	}
}
