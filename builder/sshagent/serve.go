package sshagent

import (
	"encoding/binary"
	"errors"
	"io"
	"net"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// The messages of draft-ietf-sshm-ssh-agent that steps may use. All others are
// answered with failure.
const (
	failure      = 5
	listRequest  = 11
	listReply    = 12
	signRequest  = 13
	signReply    = 14
	maxMessage   = 256 << 10 // as in OpenSSH's agent
	headerLength = 4
)

// answer serves one connection.
func (l lender) answer(conn net.Conn) {
	defer conn.Close()
	ask := l.sign
	if l.socket != "" {
		own, err := net.Dial("unix", l.socket)
		if err != nil {
			return
		}
		defer own.Close()
		ask = func(request []byte) ([]byte, error) { return relay(own, request) }
	}
	for {
		request, err := receive(conn)
		if err != nil {
			return
		}
		reply := []byte{failure}
		if request[0] == listRequest || request[0] == signRequest {
			if reply, err = ask(request); err != nil {
				reply = []byte{failure}
			}
		}
		if send(conn, reply) != nil {
			return
		}
	}
}

// relay passes a request to the user's agent.
func relay(own net.Conn, request []byte) ([]byte, error) {
	if err := send(own, request); err != nil {
		return nil, err
	}
	return receive(own)
}

// sign signs with a key of the keyring.
func (l lender) sign(request []byte) ([]byte, error) {
	if request[0] == listRequest {
		return l.list()
	}
	var want struct {
		Key, Data []byte
		Flags     uint32
	}
	if err := ssh.Unmarshal(request[1:], &want); err != nil {
		return nil, err
	}
	key, err := ssh.ParsePublicKey(want.Key)
	if err != nil {
		return nil, err
	}
	signature, err := l.keys.SignWithFlags(key, want.Data, agent.SignatureFlags(want.Flags))
	if err != nil {
		return nil, err
	}
	return ssh.Marshal(struct {
		Type      byte
		Signature []byte
	}{signReply, ssh.Marshal(signature)}), nil
}

func (l lender) list() ([]byte, error) {
	keys, err := l.keys.List()
	if err != nil {
		return nil, err
	}
	reply := binary.BigEndian.AppendUint32([]byte{listReply}, uint32(len(keys)))
	for _, k := range keys {
		reply = append(reply, ssh.Marshal(struct {
			Key     []byte
			Comment string
		}{k.Blob, k.Comment})...)
	}
	return reply, nil
}

// receive reads one message; it is not empty.
func receive(r io.Reader) ([]byte, error) {
	var head [headerLength]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 || n > maxMessage {
		return nil, errors.New("invalid message length")
	}
	message := make([]byte, n)
	_, err := io.ReadFull(r, message)
	return message, err
}

func send(w io.Writer, message []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...))
	return err
}
