package main

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of remote_write's messages. A sample has the same number in the
// time series of both.
const (
	seriesV1 = 1 // prometheus.WriteRequest.timeseries
	seriesV2 = 5 // io.prometheus.write.v2.Request.timeseries
	samples  = 2 // TimeSeries.samples
)

// count walks over a write request and gives the number of its series, and of
// the samples in them, without decoding either.
func count(request []byte, seriesField protowire.Number) (series, inAll int, err error) {
	err = walk(request, seriesField, func(one []byte) error {
		series++
		return walk(one, samples, func([]byte) error {
			inAll++
			return nil
		})
	})
	if err != nil {
		return 0, 0, fmt.Errorf("count the series of a write request: %w", err)
	}
	return series, inAll, nil
}

// walk calls found with each submessage of a message that has this number.
func walk(message []byte, number protowire.Number, found func([]byte) error) error {
	for len(message) > 0 {
		got, wire, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		n = protowire.ConsumeFieldValue(got, wire, message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if got == number && wire == protowire.BytesType {
			value, _ := protowire.ConsumeBytes(message)
			if err := found(value); err != nil {
				return err
			}
		}
		message = message[n:]
	}
	return nil
}
