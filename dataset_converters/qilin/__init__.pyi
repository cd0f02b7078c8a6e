from .qilin import convert_qilin as convert_qilin
