package s3

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/cairn-build/cairn/builder/cache/object"
	"github.com/cairn-build/cairn/registry/auth/aws"
)

// Objects above the size largest are sent in parts of the size part, or larger ones if
// there would be too many.
var (
	largest  int64 = 256 << 20
	part     int64 = 64 << 20
	maxParts int64 = 10_000
)

// putParts writes an object in parts, and removes them if that fails.
// Source: docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html.
func (c *Client) putParts(ctx context.Context, key string, content object.Content) error {
	resp, err := c.do(ctx, request{method: "POST", key: key, query: url.Values{"uploads": {""}}})
	if err != nil {
		return err
	}
	var begun struct {
		UploadID string `xml:"UploadId"`
	}
	err = xml.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&begun)
	if err = errors.Join(err, resp.Body.Close()); err == nil && begun.UploadID == "" {
		err = errors.New("no UploadId in the response")
	}
	if err != nil {
		return fmt.Errorf("%s/%s: beginning an upload: %w", c, key, err)
	}
	id := url.Values{"uploadId": {begun.UploadID}}
	err = c.sendParts(ctx, key, content, id)
	if err != nil {
		resp, abort := c.do(context.WithoutCancel(ctx), request{method: "DELETE", key: key, query: id})
		if abort == nil {
			resp.Body.Close()
		}
	}
	return err
}

func (c *Client) sendParts(ctx context.Context, key string, content object.Content, id url.Values) error {
	type sent struct {
		PartNumber int
		ETag       string
	}
	list := struct {
		XMLName xml.Name `xml:"CompleteMultipartUpload"`
		Part    []sent
	}{}
	parts := &object.Parts{Open: content.Open}
	defer parts.Close()
	size := max(part, (content.Size+maxParts-1)/maxParts)
	for off := int64(0); off < content.Size; off += size {
		n := min(size, content.Size-off)
		number := len(list.Part) + 1
		resp, err := c.do(ctx, request{
			method: "PUT", key: key, query: url.Values{"partNumber": {strconv.Itoa(number)}, "uploadId": id["uploadId"]},
			payload: aws.Unsigned, size: n, body: func() (io.ReadCloser, error) { return parts.From(off, n) },
		})
		if err != nil {
			return err
		}
		list.Part = append(list.Part, sent{number, resp.Header.Get("ETag")})
		resp.Body.Close()
	}
	text, err := xml.Marshal(list)
	if err != nil {
		return err
	}
	resp, err := c.do(ctx, request{
		method: "POST", key: key, query: id, payload: aws.Hash(string(text)), size: int64(len(text)),
		body: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(text))), nil },
	})
	if err != nil {
		return err
	}
	if err := errors.Join(succeeded(resp), resp.Body.Close()); err != nil {
		return fmt.Errorf("%s/%s: completing an upload: %w", c, key, err)
	}
	return nil
}
