// Package sshagent gives steps access to ssh agents, so that they can use keys
// without seeing them.
//
// An agent is the user's own, or one in this process with keys from files. In both
// cases a step may list keys and request signatures, and nothing else.
package sshagent

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// Default is the id of a --mount=type=ssh without an id.
const Default = "default"

// maxKey is the largest size of a key's file, in bytes.
const maxKey = 100 << 10

// Source is the source of the agent ID: Paths is one socket, or files with private
// keys. Without paths it is the user's own agent.
type Source struct {
	ID    string
	Paths []string
}

// Set holds the agents of one build. A nil set has none.
type Set struct {
	agents map[string]lender
}

// lender is an agent that steps may use: a keyring of this process, or the socket
// of another agent.
type lender struct {
	origin string
	socket string
	keys   agent.ExtendedAgent
}

// NewSet reads the keys and checks that the sockets exist. lookup reads the
// environment, as [os.LookupEnv] does.
func NewSet(sources []Source, lookup func(string) (string, bool)) (*Set, error) {
	s := &Set{agents: map[string]lender{}}
	for _, src := range sources {
		if _, ok := s.agents[src.ID]; ok {
			return nil, fmt.Errorf("ssh agent %s is given twice", src.ID)
		}
		if len(src.Paths) == 0 {
			own, _ := lookup("SSH_AUTH_SOCK")
			if own == "" {
				return nil, fmt.Errorf("ssh agent %s: $SSH_AUTH_SOCK is not set: start an agent, or name a key with --ssh %s=KEY", src.ID, src.ID)
			}
			src.Paths = []string{own}
		}
		l, err := newLender(src.Paths)
		if err != nil {
			return nil, fmt.Errorf("ssh agent %s: %w", src.ID, err)
		}
		l.origin = strings.Join(src.Paths, ",")
		s.agents[src.ID] = l
	}
	return s, nil
}

func newLender(paths []string) (lender, error) {
	l := lender{keys: agent.NewKeyring().(agent.ExtendedAgent)}
	for _, path := range paths {
		fi, err := os.Stat(path)
		if err != nil {
			return lender{}, err
		}
		if fi.Mode()&os.ModeSocket != 0 {
			if len(paths) > 1 {
				return lender{}, errors.New("a socket can't be combined with other sockets or keys")
			}
			return lender{socket: path}, nil
		}
		key, err := readKey(path)
		if err == nil {
			err = l.keys.Add(agent.AddedKey{PrivateKey: key})
		}
		if err != nil {
			return lender{}, fmt.Errorf("key %s: %w", path, err)
		}
	}
	return l, nil
}

func readKey(path string) (any, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKey))
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParseRawPrivateKey(text)
	if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
		return nil, errors.New("it has a passphrase: add it to an agent with ssh-add, and pass the agent on with --ssh default")
	}
	return key, err
}

// Origin describes the source of an agent. Agents with equal origins are equal.
func (s *Set) Origin(id string) string {
	if !s.Has(id) {
		return "none"
	}
	return s.agents[id].origin
}

// Has reports whether the set has an agent of this id.
func (s *Set) Has(id string) bool {
	if s == nil {
		return false
	}
	_, ok := s.agents[id]
	return ok
}

// serve answers connections to l with the agent of an id until l is closed.
func (s *Set) serve(id string, l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go s.agents[id].answer(conn)
	}
}
