// Package synthetic is an API server for reading object metadata at sizes that
// a real one cannot hold on one machine. It computes every object from its
// index when a page is written, so that a million pods cost it nothing but the
// copying of bytes.
//
// It answers discovery, and lists of pods and namespaces with limit, continue,
// resourceVersion and resourceVersionMatch, as metadata or whole objects, in
// protobuf or JSON, in the very bytes that apimachinery's serializers write.
// Watches stay open and tell nothing. On request it forbids, throttles and
// expires what a real server would forbid, throttle and expire.
package synthetic
