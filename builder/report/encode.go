package report

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

const (
	// maxKeptLog is the output of all steps that a stored build keeps, in bytes.
	maxKeptLog = 4 << 20
	// maxStored is the size of a stored build that is still read, uncompressed.
	maxStored = 64 << 20
	// maxPlain is the size in bytes up to which a build is stored as it is: the state of a
	// compressor takes more memory and time than the rest of a small one.
	maxPlain = 64 << 10
)

// Encode returns a build for the store: its JSON, compressed if it is large.
func Encode(b *Build) ([]byte, error) {
	stored := *b
	stored.Steps = trimLogs(b.Steps, maxKeptLog)
	text, err := json.Marshal(&stored)
	if err != nil || len(text) <= maxPlain {
		return text, err
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(text); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// trimLogs leaves out the output of the steps with the most, until the rest has at most n
// bytes. That of a step that failed stays.
func trimLogs(steps []Step, n int) []Step {
	out := append([]Step(nil), steps...)
	sizeOf := func(s *Step) (n int) {
		for _, line := range s.Log {
			n += len(line) + 1
		}
		return n
	}
	total := 0
	for i := range out {
		total += sizeOf(&out[i])
	}
	for i := range out {
		if s := &out[i]; total > n && s.State != StateFailed && len(s.Log) > 0 {
			total -= sizeOf(s)
			s.Log, s.LogCut = nil, true
		}
	}
	return out
}

// Decode returns a build that Encode has encoded.
func Decode(text []byte) (*Build, error) {
	plain := text
	if len(text) == 0 || text[0] != '{' {
		z, err := gzip.NewReader(bytes.NewReader(text))
		if err != nil {
			return nil, err
		}
		if plain, err = io.ReadAll(io.LimitReader(z, maxStored+1)); err != nil {
			return nil, err
		}
	}
	if len(plain) > maxStored {
		return nil, errors.New("it is too large")
	}
	var b Build
	if err := json.Unmarshal(plain, &b); err != nil {
		return nil, err
	}
	if b.Version != Version {
		return nil, fmt.Errorf("it has version %d of the format, and this cairn reads version %d", b.Version, Version)
	}
	return &b, nil
}
