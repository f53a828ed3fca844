package progress

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// application is a build of four targets: web finishes, api fails, and job, which needs
// it, is canceled. All of db is cached.
func application(r *Reporter) {
	meta := r.Vertex("[internal] load metadata for docker.io/library/busybox:latest")
	load := r.VertexOf("web", "[web internal] load build definition from Dockerfile")
	meta.Start()
	load.Start()
	load.Done(nil)
	pause(time.Second)
	meta.Done(nil)
	drawn()
	db := r.StepOf("db", "[db 1/1] COPY data /data")
	db.Cached()
	r.TargetDone("db", nil)
	shared := r.StepOf("web", "[web +2 base 1/1] RUN make base")
	shared.Start()
	shared.Log(1, []byte("making\nthe base\n"))
	pause(time.Second)
	shared.Done(nil)
	drawn()
	web, api, job := r.StepOf("web", "[web 2/2] RUN make web"), r.StepOf("api", "[api 2/2] RUN make api"), r.StepOf("job", "[job 3/3] RUN make job")
	r.StepOf("web", "[web 1/2] COPY . .").Cached()
	web.Start()
	api.Start()
	api.Status("layer", 1_000_000, 2_000_000)
	job.Start()
	pause(time.Second)
	web.Done(nil)
	drawn()
	r.TargetDone("web", nil)
	pause(time.Second)
	api.Log(2, []byte("no rule\n"))
	drawn()
	api.Done(errors.New("exit code: 2"))
	r.TargetDone("api", context.Canceled)
	job.Done(context.Canceled)
	r.TargetDone("job", context.Canceled)
	r.TargetDone("web", nil) // once only
	r.Vertex("pushing web").Start()
	pause(time.Second)
}

func TestTTYTargets(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	times := []time.Duration{500 * time.Millisecond, 1800 * time.Millisecond, 2900 * time.Millisecond, 3900 * time.Millisecond}
	golden(t, "tty-targets.txt", film(t, &screen{columns: 80, rows: 24}, times, application))
	golden(t, "tty-targets-small.txt", film(t, &screen{columns: 60, rows: 6}, times, application))
}

// A target that runs again, after a damaged blob was found, is shown again.
func TestTargetAgain(t *testing.T) {
	t.Setenv("NO_COLOR", "1")
	golden(t, "tty-again.txt", film(t, &screen{columns: 60, rows: 10}, []time.Duration{3 * time.Second}, func(r *Reporter) {
		r.StepOf("web", "[web 1/1] RUN a").Done(nil)
		r.TargetDone("web", nil)
		pause(2 * time.Second)
		v := r.StepOf("web", "[web 1/1] RUN a")
		v.Start()
		pause(2 * time.Second)
		v.Done(nil)
		r.TargetDone("web", nil)
		r.VertexOf("api", "[api internal] load build definition from Dockerfile").Done(nil) // and no steps
	}))
	var none *Reporter
	none.TargetDone("web", nil)
	if none.VertexOf("web", "x") != nil || none.StepOf("web", "x") != nil {
		t.Error("a nil Reporter has vertices")
	}
}

// The other displays name the target of each step.
func TestPlainTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out safe
		r := New(Plain, &out)
		application(r)
		r.Close()
		golden(t, "plain-targets.txt", out.String())
	})
}
