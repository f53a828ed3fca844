package builder

import (
	"crypto/ed25519"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	keyring "golang.org/x/crypto/ssh/agent"

	"github.com/cairn-build/cairn/builder/sshagent"
	"github.com/cairn-build/cairn/layer/store"
)

// newKey returns the file of a private key.
func newKey(t *testing.T) []byte {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(block)
}

func TestGitAgent(t *testing.T) {
	if gitAgent(nil, nil) != nil {
		t.Error("a build without an agent lends one")
	}
	file := filepath.Join(t.TempDir(), "key")
	put(t, file, newKey(t))
	set, err := sshagent.NewSet([]sshagent.Source{{ID: sshagent.Default, Paths: []string{file}}}, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	socket, done, err := gitAgent(s, set)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := keyring.NewClient(conn).List()
	if err != nil || len(keys) != 1 {
		t.Errorf("keys: %v, %v", keys, err)
	}
	conn.Close()
	if err := done(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(socket)); !os.IsNotExist(err) {
		t.Errorf("the socket's folder is still there: %v", err)
	}
}

// The server is asked once for a file that gives the time of the build and that ADD
// fetches: the session has one fetcher.
func TestEpochSourceIsFetchedOnce(t *testing.T) {
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.ServeContent(w, r, "file", time.Unix(epoch, 0), strings.NewReader("text"))
	}))
	defer server.Close()
	dir := contextOf(t, map[string]string{"Dockerfile": "FROM scratch AS src\nADD " + server.URL + "/file /\nFROM scratch\nCOPY --from=src file /\n"})
	o := options{Context: dir, Tags: []string{"x"}, Args: map[string]string{"SOURCE_DATE_EPOCH": "src"}}
	b := newBuilder(t, nil)
	for range 2 {
		asked.Store(0)
		built, err := b.Build(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if n := asked.Load(); n != 1 {
			t.Errorf("the server was asked %d times, want once", n)
		}
		if want := time.Unix(epoch, 0).UTC().Format(time.RFC3339); !strings.Contains(string(built.Image.Config), `"created":"`+want+`"`) {
			t.Errorf("config %s, want created %s", built.Image.Config, want)
		}
	}
}
