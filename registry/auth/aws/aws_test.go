package aws

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/cairn-build/cairn/builder/cache/object/s3/fake"
)

// TestRenewal checks that temporary credentials are kept, and renewed before they end.
func TestRenewal(t *testing.T) {
	s := &fake.Server{}
	server := httptest.NewServer(s)
	defer server.Close()
	t.Setenv("HOME", t.TempDir())
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.URL)
	c := NewChain(Credentials{}, fake.Region, http.DefaultClient)
	for i, want := range []int{1, 1, 2} {
		if i == 2 {
			c.last.until = time.Now().Add(early / 2)
		}
		got, err := c.Get(t.Context())
		if err != nil || got.ID != fake.Temporary.ID || got.Token != fake.Temporary.Token {
			t.Fatalf("%+v, %v", got, err)
		}
		if s.Issued() != want {
			t.Errorf("request %d: credentials were fetched %d times, want %d", i, s.Issued(), want)
		}
	}
}
