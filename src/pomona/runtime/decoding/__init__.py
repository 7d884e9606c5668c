"""Language models of the Llama family that make text, one native call a token."""

from pomona.runtime.decoding.decoder import Decoder

__all__ = ["Decoder"]
