package builder

import (
	"crypto/ed25519"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/crypto/ssh"
	sshagent "golang.org/x/crypto/ssh/agent"

	"github.com/cairn-build/cairn/builder/agent"
	"github.com/cairn-build/cairn/layer/store"
)

func TestGitAgent(t *testing.T) {
	if (&job{}).gitAgent() != nil {
		t.Error("a build without an agent lends one")
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	set, err := agent.NewSet([]agent.Source{{ID: agent.Default, Paths: []string{file}}}, os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	socket, done, err := (&job{Builder: &Builder{Store: s}, agents: set}).gitAgent()(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := sshagent.NewClient(conn).List()
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
