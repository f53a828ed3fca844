package builder

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/cairn-build/cairn/builder/cache/remote"
	"github.com/cairn-build/cairn/builder/progress"
	"github.com/cairn-build/cairn/layer"
	"github.com/cairn-build/cairn/layer/imagetest"
	"github.com/cairn-build/cairn/registry"
	"github.com/cairn-build/cairn/registry/auth"
)

// The import of a cache that the build did not need ends visibly with it.
func TestAbandonedImport(t *testing.T) {
	asked := make(chan struct{})
	r := imagetest.Serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	client, err := registry.New(registry.Options{Credentials: auth.Keychain{DockerDir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var out strings.Builder
	from := remote.Location{Ref: r.Host + "/cache:latest"}
	s := &Session{SessionOptions: SessionOptions{Registry: client, Progress: progress.New(progress.Plain, &out), CacheFrom: []remote.Location{from}}}
	ctx, cancel := context.WithCancel(t.Context())
	target := &planned{}
	target.Platforms = []layer.Platform{layer.HostPlatform()}
	imports := s.startCacheImports(ctx, []*planned{target})
	<-asked
	cancel()
	imports.ended()
	s.Progress.Close()
	if !strings.Contains(out.String(), "#1 importing cache from "+r.Host+"/cache:latest\n") || !strings.Contains(out.String(), "#1 CANCELED\n") {
		t.Errorf("output:\n%s", out.String())
	}
	if results(1) != "1 result\n" || results(0) != "0 results\n" || results(2) != "2 results\n" {
		t.Error(results(1), results(0), results(2))
	}
}
