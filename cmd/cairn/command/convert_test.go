package command

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cairn-build/cairn/builder"
	"github.com/cairn-build/cairn/builder/option"
)

// TestStalledCaches checks that --stall-timeout ends requests to caches, also if it
// follows the flag of the cache: they are repeated.
func TestStalledCaches(t *testing.T) {
	t.Parallel()
	get := func(ctx context.Context, to builder.CacheTo) { _, _, _ = to.Bucket.Store.Get(ctx, "key", "") }
	find := func(ctx context.Context, to builder.CacheTo) { _, _ = to.Service.Cache.Find(ctx, "key", false) }
	for text, ask := range map[string]func(context.Context, builder.CacheTo){
		"type=s3,bucket=b,region=r,use_path_style=true,access_key_id=a,secret_access_key=b,endpoint_url=": get,
		"type=azblob,secret_access_key=a2V5,account_url=":                                                 get,
		"type=gha,token=t,url=": find,
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var requests atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if requests.Add(1) > 1 {
					cancel()
				}
				<-r.Context().Done()
			}))
			defer server.Close()
			parsed, err := option.ParseCacheFrom(text + server.URL + "/")
			if err != nil {
				t.Fatal(err)
			}
			var patience time.Duration
			all, err := builderCaches(parsed, &patience)
			if err != nil {
				t.Fatal(err)
			}
			patience = time.Second
			ask(ctx, all[0])
			if n := requests.Load(); n < 2 {
				t.Errorf("%d requests, want 2", n)
			}
		})
	}
}
