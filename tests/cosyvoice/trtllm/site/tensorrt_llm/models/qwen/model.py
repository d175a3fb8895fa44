from typing import Any

from tests.cosyvoice.trtllm.contract import CONTRACT, bound

_HERE = "tensorrt_llm.models.qwen.model.QWenForCausalLM"


class QWenForCausalLM:
    def __init__(self, folder: str, dtype: str) -> None:
        self.folder, self.dtype, self.keys = folder, dtype, list[str]()

    @classmethod
    def from_hugging_face(cls, *args: Any, **kwargs: Any) -> "QWenForCausalLM":
        about = CONTRACT["classes"][_HERE]["classmethods"]["from_hugging_face"]
        taken = bound(_HERE, about, {}, args, kwargs)
        return cls(taken["hf_model_or_dir"], taken["dtype"])
